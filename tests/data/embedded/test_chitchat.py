"""Conversations of chitchat-dataset as chats."""

import json
from pathlib import Path

from sft.data.embedded import read
from tests.data.embedded.wheels import contents, rows, wheel_of

DIALOGUES = "chitchat_dataset/dataset.json"


def turn(sender: str, *texts: str) -> list[dict]:
    return [{"sender": sender, "text": text, "timestamp": "2020-01-01T00:00:00Z"} for text in texts]


def test_dialogues_alternate_and_equal_ones_share_an_item(tmp_path: Path) -> None:
    talk = [turn("a", "Hello", " "), turn("a", "you  there?"), turn("b", "Yes", "I am"), turn("a", "Bye")]
    entries = {
        "one": {"messages": talk},
        "same": {"messages": talk},
        "alone": {"messages": [turn("a", "Hello?"), turn("a", "Anybody?")]},
        "crowd": {"messages": [turn("a", "Hi"), turn("b", "Hi"), turn("c", "Hi")]},
        "odd": {"messages": [["no", "senders"]]},
    }
    result = read("chitchat_dataset", wheel_of(tmp_path, {DIALOGUES: json.dumps(entries)}))
    first, second = rows(result)
    assert contents(first) == ["Hello you there?", "Yes I am"]
    assert first["item"] == second["item"] == "dialogue:one" and first["task"] == "dialogue"
    assert (first["kind"], first["question"]) == ("dialogues", None)
    assert result.skipped == {"nobody answered": 1, "more than two speakers": 1}
    assert [(reject.row, reject.source) for reject in result.rejects] == [(4, "chitchat")]
