"""Questions and answers of chatterbot-corpus as chats."""

from pathlib import Path

from sft.data.embedded import read
from sft.data.rejects import by_reason
from tests.data.embedded.wheels import contents, rows, wheel_of

QUESTIONS = "chatterbot_corpus/data/english"


def test_questions_and_conversations(tmp_path: Path) -> None:
    files = {
        "trains.yml": "categories: [trains]\nconversations:\n- - What is a tram?\n  - A street\n    train.\n"
        "- - what is  a tram\n  - A light train.\n- - Hi\n  - Hello\n  - Going far?\n  - Home\n  - Bye\n"
        "- oops - no\n",
        "emotion.yml": "conversations:\n- - Are you sad?\n  - No.\n  - Never.\n",
        "code.yml": "conversations:\n- - Show a loop\n  - |\n"
        "    Here:\n\n    ```\n    for x in y:  \n        z()\n    ```\n",
        "README.txt": "not a topic",
    }
    wheel = wheel_of(tmp_path, {f"{QUESTIONS}/{name}": text for name, text in files.items()})
    result = read("chatterbot-corpus", wheel)
    assert [(contents(row), row["item"], row["task"]) for row in rows(result)] == [
        (["Show a loop", "Here:\n\n```\nfor x in y:\n    z()\n```"], "question:show a loop", "question"),
        (["Are you sad?", "No."], "question:are you sad", "question"),
        (["Are you sad?", "Never."], "question:are you sad", "question"),
        (["What is a tram?", "A street train."], "question:what is a tram", "question"),
        (["what is a tram", "A light train."], "question:what is a tram", "question"),
        (["Hi", "Hello", "Going far?", "Home"], "question:hi", None),
    ]
    # A question of its own has every answer to it; a longer conversation has not.
    assert all(row["question"] == (row["item"] if row["task"] else None) for row in rows(result))
    assert {row["kind"] for row in rows(result)} == {"questions"}
    assert [(reject.text, reject.detail) for reject in result.rejects] == [("oops - no", "trains.yml")]
    assert by_reason(result.rejects) == {"not a question and its answer": 1}
