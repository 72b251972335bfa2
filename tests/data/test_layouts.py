"""Data files of many layouts, written here and read from disk: what becomes of each, or why it is refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft.core.errors import UserError
from sft.core.row_schema import conversation
from sft.data.layouts import LAYOUTS
from sft.data.sources import Loaded, load

ASK = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
ADD = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"x": {"default": None}}},
}
MULTIMODAL = "multimodal row: only text is trained on"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)


def read(rows: list[dict] | str | bytes, name: str = "my.jsonl", choice: str = "") -> Loaded:
    path = Path("data/raw", name)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif isinstance(rows, str | bytes):
        path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(f"{path}{choice}")


def told(loaded: Loaded) -> list[list[dict]]:
    return [conversation(row)[0] for row in loaded.table.to_pylist()]


def chats(loaded: Loaded) -> list[list[tuple[str, str]]]:
    return [[(message["role"], message["content"]) for message in row] for row in told(loaded)]


def rejected(loaded: Loaded) -> list[tuple[int, str]]:
    return sorted((reject.row, reject.why()) for reject in loaded.rejects)


def refusal(*args: Any) -> str:
    with pytest.raises(UserError) as error:
        read(*args)
    assert "data/raw/" in str(error.value)
    return str(error.value)


def call(name: str, arguments: Any, **more: str) -> dict:
    return {**more, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_the_examples_of_the_page_are_what_it_says(layout, name):
    first, second = layout.example
    # Rows of one file have the same columns; the examples show what there is.
    files = [[first, second]] if first.keys() == second.keys() else [[first], [second]]
    for rows in files:
        if layout.refused:
            assert f": {layout.name}. " in refusal(rows, name)
        else:
            loaded = read(rows, name)
            assert (len(loaded.table), loaded.rejects, loaded.layouts) == (len(rows), [], [layout.name])
            columns = {column for names in layout.fields for column in names.split(", ")}
            assert set(loaded.used) <= columns | {"tools", "history"}
        if layout.is_preference:
            loaded = load(f"data/raw/{name}#chosen")
            assert len(loaded.table) + sum(loaded.skipped.values()) == len(rows) and not loaded.rejects
            assert {row[-1]["content"] for row in told(loaded)} <= {"A pinch.", "No."}
        else:
            with pytest.raises(UserError, match="#chosen takes the chosen answers of preference data"):
                load(f"data/raw/{name}#chosen")


# 1: preference data


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, [ASK, ANSWER]),
        (
            {"question": "q", "chosen": "a", "rejected": "b", "system": "s"},
            [{"role": "system", "content": "s"}, ASK, ANSWER],
        ),
        (
            {"instruction": "q", "input": "i", "chosen": "a", "rejected": "b", "history": [["q", "a"]]},
            [ASK, ANSWER, {"role": "user", "content": "q\n\ni"}, ANSWER],
        ),
        ({"prompt": [ASK], "chosen": [ANSWER], "rejected": [ANSWER]}, [ASK, ANSWER]),
        # The whole conversation is in it, whether or not the prompt is there too.
        ({"prompt": "q", "chosen": [ASK, ANSWER], "rejected": [ASK, ANSWER]}, [ASK, ANSWER]),
        ({"chosen": [ASK, ANSWER], "rejected": [ASK, ANSWER]}, [ASK, ANSWER]),
        (
            {"prompt": "q", "messages": [ASK, ANSWER], "chosen": [ASK, ANSWER], "rejected": [ASK]},
            [ASK, ANSWER],
        ),
        # LLaMA-Factory's
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "a"},
                "rejected": {"from": "gpt", "value": "b"},
            },
            [ASK, ANSWER],
        ),
        # hh-rlhf's
        (
            {
                "chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant: a",
                "rejected": "\n\nHuman: q",
            },
            [ASK, ANSWER, ASK, ANSWER],
        ),
    ],
)
@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
def test_chosen_answers_are_taken_when_asked_for(row, wanted, name):
    assert "DPO preferences. It is preference data" in refusal([row, row], name)
    loaded = load(f"data/raw/{name}#chosen")
    assert told(loaded) == [wanted, wanted]
    not_read = {"prompt (kept, not read)": 2} if "messages" in row else {}
    assert loaded.dropped == {"rejected": 2, **not_read}
    assert "rejected" not in loaded.table.column_names


def test_kto_rows_that_are_labelled_true():
    rows = [{"prompt": f"q{n}", "completion": "a", "label": n % 2 == 0} for n in range(6)]
    rows[4]["completion"], rows[5]["completion"] = "", ""
    assert "KTO labels. It is preference data" in refusal(rows)
    loaded = load("data/raw/my.jsonl#chosen")
    assert [row[0]["content"] for row in told(loaded)] == ["q0", "q2"]
    assert rejected(loaded) == [(4, "blank content")]
    assert {str(reason): rows for reason, rows in loaded.skipped.items()} == {"not labelled true": 3}
    tagged = [{"messages": [ASK, ANSWER], "kto_tag": True}, {"messages": [ASK, ANSWER], "kto_tag": False}]
    assert "KTO labels" in refusal(tagged, "tagged.json")
    assert told(load("data/raw/tagged.json#chosen")) == [[ASK, ANSWER]]


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize("column", ["label", "kto_tag"])
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (1, 0),
        (1.0, 0.0),
        ("1", "0"),
        ("true", "false"),
        ("True", "False"),
        ("good", "bad"),
        ("desirable", "undesirable"),
    ],
)
def test_a_label_by_numbers_or_words_is_a_preference(good, bad, column, name):
    rows = [
        {"prompt": f"q{at}", "completion": "a", column: label} for at, label in enumerate((good, bad, None))
    ]
    assert "KTO labels. It is preference data" in refusal(rows, name)
    loaded = load(f"data/raw/{name}#chosen")
    assert [row[0]["content"] for row in told(loaded)] == ["q0"]
    assert list(loaded.skipped.values()) == [2]


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], ["good", "neutral"], [-1, 1]])
def test_a_label_that_says_something_else_is_no_preference(labels):
    rows = [{"prompt": f"q{at}", "completion": "a", "label": label} for at, label in enumerate(labels)]
    assert read(rows).table["label"].to_pylist() == labels


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [("chosen_response", "rejected_response"), ("accepted", "rejected"), ("response", "rejected_response")],
)
def test_preferences_under_other_names(chosen, rejected):
    rows = [{"prompt": "q", chosen: "a", rejected: "b"}]
    assert "DPO preferences" in refusal(rows)
    loaded = load("data/raw/my.jsonl#chosen")
    assert told(loaded) == [[ASK, ANSWER]]
    assert loaded.dropped == {rejected: 1} and rejected not in loaded.table.column_names


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize(
    ("row", "layout"),
    [
        (
            {
                "input": {"messages": [ASK]},
                "preferred_output": [ANSWER],
                "non_preferred_output": [ANSWER],
            },
            "OpenAI preferences",
        ),
        (
            {"conversation_a": [ASK, ANSWER], "conversation_b": [ASK, ANSWER], "winner": "model_a"},
            "battles of two answers",
        ),
    ],
)
def test_preferences_get_no_advice_that_trains_on_the_worse_answers(row, layout, name):
    said = refusal([row], name)
    assert f": {layout}. It is preference data" in said
    assert "jq -c '.non" not in said and "jq -c '.conv" not in said
    with pytest.raises(UserError, match=f"but this is {layout}.* Write ") as error:
        load(f"data/raw/{name}#chosen")
    assert "Leave it out" not in str(error.value)


@pytest.mark.parametrize("name", ["my.jsonl", "my.json"])
def test_rows_in_several_columns_are_all_named(name):
    said = refusal([{"better": [ASK, ANSWER], "n": 1, "worse": [ASK, ANSWER]}], name)
    assert "Rows lie within several columns: better, worse." in said and "jq" not in said
    row = {"prompt": "q", "completion": "a"}
    assert "If each of them is one row: jq -c '.[]'" in refusal(json.dumps({"1": row, "2": row}), "by.json")
    assert "jq -c '.\"my rows\"'" in refusal([{"my rows": row}], name)


def test_chosen_answers_of_the_files_of_a_folder():
    Path("data/raw/mine").mkdir()
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    for name in ("mine/a.jsonl", "mine/b.json", "mine/c.jsonl"):
        with pytest.raises(UserError, match="preference"):
            read([{**row, "prompt": name}], name)
    assert len(load("data/raw/mine#chosen").table) == 3
    some = load("data/raw/mine#*.jsonl#chosen")
    assert [chat[0]["content"] for chat in told(some)] == ["mine/a.jsonl", "mine/c.jsonl"]
    with pytest.raises(UserError, match="no data file in it matches"):
        load("data/raw/mine#*.parquet#chosen")


# 2: messages that are not trained on


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize(
    ("key", "off", "on"),
    [
        ("weight", 0, 1),
        ("weight", 0.0, 1.0),
        ("train", False, True),
        ("train_on_turn", False, True),
        ("loss", False, None),
        ("loss", 0.0, 1.0),
        ("train", 0, 1),
        ("weight", "0", "1"),
        ("weight", "0.0", "1.0"),
        ("train", "false", "True"),
        ("training", "no", "yes"),
    ],
)
def test_masked_messages(key, off, on, name):
    def row(*values: object) -> dict:
        return {"messages": [message for value in values for message in (ASK, {**ANSWER, key: value})]}

    loaded = read(
        [row(off, on), row(on, None), row(off, off), {"messages": [{**ASK, key: on}, {**ANSWER, key: off}]}],
        name,
    )
    flags = [[message["trained"] for message in row] for row in loaded.table["messages"].to_pylist()]
    assert flags == [[None, False, None, None], [None] * 4]
    none = "no assistant message is trained (weight 0, or train false)"
    assert rejected(loaded) == [(2, none), (3, none)]
    assert len(set(loaded.table["id"].to_pylist())) == 2
    assert loaded.dropped == {}


def test_a_weight_between_is_said():
    loaded = read(
        [{"messages": [ASK, {**ANSWER, "weight": 0.5}]}, {"messages": [ASK, {**ANSWER, "weight": 1}]}]
    )
    assert loaded.dropped == {"messages.weight other than 0 and 1": 1}
    assert len(loaded.table) == 2


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize("value", [0.25, "maybe", ["x"], {"of": 0}, 7])
def test_a_flag_that_is_neither_on_nor_off_is_said(value, name):
    rows = [{"messages": [ASK, {**ANSWER, "loss": value}]}, {"messages": [ASK, {**ANSWER, "loss": None}]}]
    loaded = read(rows, name)
    assert loaded.dropped == {"messages.loss other than 0 and 1": 1}
    assert len(loaded.table) == 2


@pytest.mark.parametrize("name", ["my.jsonl", "my.json"])
def test_flags_of_many_types_in_one_file(name):
    flags = (False, 0, 0.0, "0", "false", True, 1, 1.0, "yes", None)
    rows = [{"messages": [ASK, {**ANSWER, "train": flag}]} for flag in flags]
    loaded = read(rows, name)
    assert [row for row, _ in rejected(loaded)] == [0, 1, 2, 3, 4]
    assert loaded.dropped == {}


# 3: tools


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize("as_text", [True, False])
def test_tools_and_calls_come_out_as_they_are(name, as_text):
    def written(value: Any) -> Any:
        return json.dumps(value) if as_text else value

    if name == "my.parquet" and not as_text:
        pytest.skip("Arrow gives every object the keys of all")
    other = {"name": "show", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}
    rows = [
        {
            "messages": [
                ASK,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [call("add", written({"x": 1}), id="1")],
                },
                {"role": "tool", "content": "", "tool_call_id": "1", "name": "add"},
                {**ANSWER, "tool_calls": [call("show", written({"text": "a", "deep": {"list": [1, {}]}}))]},
            ],
            "tools": written([ADD, other]),
        },
        {"messages": [ASK, ANSWER], "tools": written([])},
        {"messages": [ASK, ANSWER], "tools": written([other])},
        {"messages": [ASK, {**ANSWER, "content": "", "tool_calls": [call("add", "x = 1")]}], "tools": None},
    ]
    loaded = read(rows, name)
    assert rejected(loaded) == [] and loaded.dropped == {}
    wrapped = {"type": "function", "function": other}
    got = [conversation(row) for row in loaded.table.to_pylist()]
    assert got == [
        (
            [
                ASK,
                {"role": "assistant", "content": "", "tool_calls": [call("add", {"x": 1}, id="1")]},
                rows[0]["messages"][2],
                {**ANSWER, "tool_calls": [call("show", {"text": "a", "deep": {"list": [1, {}]}})]},
            ],
            [ADD, wrapped],
        ),
        ([ASK, ANSWER], None),
        ([ASK, ANSWER], [wrapped]),
        ([ASK, {"role": "assistant", "content": "", "tool_calls": [call("add", "x = 1")]}], None),
    ]
    assert len(set(loaded.table["id"].to_pylist())) == 4


def test_tools_of_a_struct_lose_what_only_others_have():
    rows = [
        {"messages": [ASK, {**ANSWER, "tool_calls": [call(name, arguments)]}]}
        for name, arguments in (("add", {"x": 1}), ("show", {"text": "a"}))
    ]
    calls = [row[1]["tool_calls"][0]["function"]["arguments"] for row in told(read(rows, "my.parquet"))]
    assert calls == [{"x": 1}, {"text": "a"}]


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
def test_calls_by_role_and_of_the_old_form(name):
    glaive = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": '{"name": "add", "arguments": \'{"x": 1}\'}'},
        {"from": "observation", "value": "2"},
        {"from": "tool_call", "value": '[{"name": "add", "arguments": {}}, {"name": "show"}]'},
        {"from": "tool_response", "value": "3"},
        {"from": "gpt", "value": "a"},
    ]
    bad = [glaive[0], {"from": "function_call", "value": "add(1)"}, glaive[-1]]
    loaded = read(
        [{"conversations": glaive, "tools": json.dumps(ADD)}, {"conversations": bad, "tools": None}], name
    )
    assert told(loaded) == [
        [
            ASK,
            {"role": "assistant", "content": "", "tool_calls": [call("add", {"x": 1})]},
            {"role": "tool", "content": "2"},
            {"role": "assistant", "content": "", "tool_calls": [call("add", {}), call("show", {})]},
            {"role": "tool", "content": "3"},
            ANSWER,
        ]
    ]
    assert json.loads(loaded.table["tools"][0].as_py()) == [ADD]
    assert rejected(loaded) == [(1, "tool calls that cannot be read")]
    old = [
        ASK,
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"x": 1}'}},
        {"role": "function", "name": "add", "content": "2"},
        ANSWER,
    ]
    loaded = read([{"messages": old, "functions": [ADD["function"]]}], f"old{name}")
    assert told(loaded)[0][1:3] == [
        {"role": "assistant", "content": "", "tool_calls": [call("add", {"x": 1})]},
        {"role": "tool", "content": "2", "name": "add"},
    ]
    assert loaded.used == ["messages", "functions"]


@pytest.mark.parametrize(
    "tools", ["no JSON", '["add"]', '[{"description": "nameless"}]', "7", '[{"name": "\\ud800"}]']
)
def test_tools_that_cannot_be_read(tools):
    loaded = read([{"messages": [ASK, ANSWER], "tools": tools}, {"messages": [ASK, ANSWER], "tools": "[]"}])
    assert rejected(loaded) == [(0, "tools that cannot be read")]
    assert told(loaded) == [[ASK, ANSWER]]


# 4: reasoning


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize(
    "message",
    [
        {"content": "a", "reasoning_content": "r"},
        {"content": "a", "reasoning": "r"},
        {"content": "a", "thinking": "r"},
        {"content": "<think>\nr\n</think>\n\na"},
        {"content": "\n<think>r</think>a"},
    ],
)
def test_reasoning(message, name):
    plain = {"messages": [{"role": "user", "content": "<think>q</think>"}, ANSWER]}
    loaded = read([{"messages": [ASK, {"role": "assistant", **message}]}, plain], name)
    assert told(loaded) == [[ASK, {**ANSWER, "reasoning_content": "r"}], plain["messages"]]
    assert loaded.dropped == {}


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("r\n</think>\n\na", {**ANSWER, "reasoning_content": "r"}),
        ("</think>a", ANSWER),
        (
            "<|begin_of_thought|>\n\nr\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\na\n\n<|end_of_solution|>",
            {**ANSWER, "reasoning_content": "r"},
        ),
        ("close </think> twice </think>", {**ANSWER, "content": "close </think> twice </think>"}),
    ],
)
def test_other_forms_of_thoughts(content, wanted, name):
    rows = [{"prompt": "q", "completion": content}, {"prompt": "</think>q", "completion": "a"}]
    asked = {"role": "user", "content": "</think>q"}
    assert told(read(rows, name)) == [[ASK, wanted], [asked, ANSWER]]


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
def test_thoughts_among_the_parts_and_without_an_end(name):
    parts = [{"type": "thinking", "thinking": "r"}, {"type": "text", "text": "a"}]
    ask = {"role": "user", "content": [{"type": "text", "text": "q"}]}
    rows = [{"messages": [ask, {"role": "assistant", "content": content}]} for content in (parts, parts[1:])]
    assert told(read(rows, name)) == [[ASK, {**ANSWER, "reasoning_content": "r"}], [ASK, ANSWER]]
    rows = [{"messages": [ASK, {"role": "assistant", "content": text}]} for text in ("\n<think>r", "a")]
    loaded = read(rows, name)
    assert rejected(loaded) == [(0, "reasoning without an end (<think> but no </think>)")]


def test_reasoning_beside_a_pair_and_none_at_all():
    rows = [
        {"question": "q", "answer": "a", "reasoning": "r"},
        {"question": "q", "answer": "<think>\n\n</think>\n\na", "reasoning": None},
        {"question": "q", "answer": "a <think> of </think> it", "reasoning": " "},
    ]
    loaded = read(rows)
    assert [row[1].get("reasoning_content") for row in told(loaded)] == ["r", None, None]
    assert [row[1]["content"] for row in told(loaded)] == ["a", "a", "a <think> of </think> it"]


# 5: the other fields


def test_history_comes_first():
    rows = [
        {
            "instruction": "q",
            "input": "",
            "output": "a",
            "history": [["q1", "a1"], ["q2", "a2"]],
            "system": "s",
        },
        {"instruction": "q", "input": "i", "output": "a", "history": []},
        {"instruction": "q", "input": "i", "output": "a", "history": [["q1", "a1"], ["alone"]]},
        {"instruction": "q", "input": "i", "output": "a", "history": None},
    ]
    loaded = read(rows)
    turns = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    plain = [("user", "q\n\ni"), ("assistant", "a")]
    assert chats(loaded) == [[("system", "s"), *turns, ("user", "q"), ("assistant", "a")], plain, plain]
    assert rejected(loaded) == [(2, "history that is no list of pairs of texts, nor of messages")]
    wrong = [
        {"query": "q", "response": "a", "history": "said"},
        {"query": "q", "response": "a", "history": ""},
    ]
    assert rejected(read(wrong)) == [(0, "history that is no list of pairs of texts, nor of messages")]


@pytest.mark.parametrize(
    "names", [("question", "answer"), ("instruction", "response"), ("instruction", "output")]
)
def test_context_stands_below_the_question(names):
    rows = [dict(zip((*names, "context"), ("q", "a", context), strict=True)) for context in ("c", "", None)]
    loaded = read(rows)
    assert [row[0][1] for row in chats(loaded)] == ["q\n\nc", "q", "q"]
    assert "context" in loaded.used and "context" not in loaded.table.column_names


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
def test_columns_that_are_neither_used_nor_kept_are_counted(name):
    rows = [
        {
            "id": n,
            "score": 0.5,
            "tags": ["x"] if n < 2 else [],
            "meta": {"a": n} if n else None,
            "context": {"title": "t"},
            "question": f"q{n}",
            "answer": "a" if n else "",
        }
        for n in range(4)
    ]
    loaded = read(rows, name)
    assert loaded.dropped == {"tags": 2, "meta": 3, "context": 4}
    assert loaded.used == ["question", "answer"]
    assert loaded.table["origin_id"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
def test_fields_of_messages_that_nothing_is_made_of_are_counted(name):
    rows = [
        {"messages": [{**ASK, "time": 5, "name": "Ann"}, {**ANSWER, "refusal": None, "annotations": []}]},
        {"messages": [{**ASK, "time": 5, "name": None}, {**ANSWER, "refusal": "no", "annotations": ["x"]}]},
    ]
    loaded = read(rows, name)
    assert loaded.dropped == {
        "messages.time": 2,
        "messages.refusal": 1,
        "messages.annotations": 1,
        "name of other roles": 1,
    }


def test_a_value_of_another_type_than_its_column_is_counted():
    rows = [{"prompt": "q", "completion": "a", "score": score} for score in (1, 2, "high", None)]
    loaded = read(rows)
    assert loaded.dropped == {"score": 1}
    assert loaded.table["score"].to_pylist() == [1, 2, None, None]


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize(
    ("column", "value", "text", "is_one"),
    [
        ("images", ["a.png"], "<image>q", True),
        ("images", ["a.png"], "q", True),
        ("image", {"path": "a.png"}, "q", True),
        ("image", "a.png", "<image>\nq", True),
        ("videos", ["a.mp4"], "<video>q", True),
        ("image_path", "a.png", "<image> q", True),
        ("none", None, "q\n<image>", True),
        ("none", None, "<video>\nq", True),
        ("none", None, "q\n <audio> \nq", True),
        ("none", None, "what does <image> in a feed mean?", False),
        ("none", None, "<image>\n<url>x</url>\n</image>", False),
        # The address of a picture beside a text that has no place for it.
        ("image", "a.png", "q", False),
        ("image_url", "a.png", "q", False),
    ],
)
def test_multimodal_rows_are_refused(name, column, value, text, is_one):
    rows = [{"question": text, "answer": "a", column: value}, {"question": "q", "answer": "a", column: None}]
    loaded = read(rows, name)
    assert rejected(loaded) == ([(0, MULTIMODAL)] if is_one else [])
    assert loaded.dropped == ({column: 1} if value else {})
    assert value is None or column not in loaded.table.column_names


def test_rows_that_end_with_a_user_are_counted():
    rows = [{"messages": [ASK, ANSWER, *more]} for more in ([], [ASK], [ASK, ANSWER], [ASK])]
    assert read(rows).ends_on_user == 2


def test_rows_in_which_nobody_asks_are_counted():
    system = {"role": "system", "content": "s"}
    assert read([{"messages": [system, *more, ANSWER]} for more in ([], [ASK], [])]).no_user == 2


def test_a_reject_shows_the_message_that_is_at_fault():
    long = [{**ASK, "content": "long " * 50}, ANSWER]
    rows = [{"messages": [*long, {"role": "narrator", "content": "x"}, ANSWER], "system": "s"}]
    (reject,) = read(rows).rejects
    assert reject.text == 'message 3: {"content": "x", "role": "narrator"}' or (
        reject.text == 'message 3: {"role": "narrator", "content": "x"}'
    )


# 6: layouts


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize("key", ["text", "value", "content"])
def test_parts_of_contents(key, name):
    parts = [{"type": "text", key: "a"}, {"type": "text", key: "b"}]
    rows = [{"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": parts[:1]}]}]
    assert chats(read(rows, name)) == [[("user", "ab"), ("assistant", "a")]]
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    rows.append(
        {"messages": [{"role": "user", "content": [*parts, image]}, {"role": "assistant", "content": parts}]}
    )
    assert rejected(read(rows, name)) == [(1, MULTIMODAL)]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("key", ["data", "rows", "train"])
def test_rows_under_a_name_in_one_object(key, indent):
    rows = [{"messages": [ASK, ANSWER]}, {"messages": [ASK]}]
    loaded = read(json.dumps({"version": "1", key: rows}, indent=indent), "my.json")
    assert told(loaded) == [[ASK, ANSWER]]
    assert rejected(loaded) == [(1, "no assistant turn")]


def test_several_lists_of_rows_in_one_object():
    rows = [{"messages": [ASK, ANSWER]}]
    said = refusal(json.dumps({"test": rows, "train": rows}), "my.json")
    assert "several lists of rows: train, test." in said and "jq -c '.train[]'" in said


def test_lines_that_are_lists():
    said = refusal(f"{json.dumps([ASK, ANSWER])}\n" * 2)
    assert "its lines are lists" in said and "jq -c '{messages: .}'" in said
    assert "invalid JSON" in refusal('[{"prompt": "q"')


def test_rows_without_messages():
    rows = [{"messages": [ASK, ANSWER]}, {"messages": None}, {"messages": []}]
    assert rejected(read(rows)) == [(1, "no messages"), (2, "no messages")]


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
def test_choices_are_kept_in_every_kind_of_file(name):
    loaded = read([{"question": "q", "answer": "a", "choices": ["a", "b"]}], name)
    assert loaded.table["choices"].to_pylist() == [["a", "b"]] and loaded.dropped == {}


def test_one_row_over_several_lines():
    row = {"messages": [ASK, ANSWER], "data": [{"prompt": "x", "completion": "y"}]}
    lines = f'{{"messages": [\n{json.dumps(ASK)},\n{json.dumps(ANSWER)}\n,\n{json.dumps(ASK)}\n]}}\n'
    assert told(read(json.dumps(row, indent=2), "my.json")) == [[ASK, ANSWER]]
    assert told(read(lines, "my.json")) == [[ASK, ANSWER, ASK]]


def test_a_context_beside_messages_is_no_part_of_them():
    rows = [{"prompt": [ASK], "completion": [ANSWER], "context": "c", "reasoning": "r"}]
    loaded = read(rows)
    assert told(loaded) == [[ASK, ANSWER]]
    assert loaded.table["context"].to_pylist() == ["c"]
    assert loaded.dropped == {"context (kept, not read)": 1, "reasoning (kept, not read)": 1}


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize(
    ("row", "asked", "dropped"),
    [
        ({"prompt": "q", "input": "i", "completion": "a"}, "q\n\ni", {}),
        ({"query": "q", "input": "i", "response": "a"}, "q\n\ni", {}),
        ({"instruction": "q", "input": "i", "response": "a", "context": "c"}, "q\n\ni\n\nc", {}),
        ({"instruction": "q", "input": "i", "output": "a", "context": "c"}, "q\n\ni\n\nc", {}),
        ({"question": "q", "passage": "p", "answer": "a"}, "q\n\np", {}),
        ({"input": "q", "output": "a"}, "q", {}),
        ({"text_input": "q", "output": "a", "context": "c"}, "q\n\nc", {}),
        ({"instruction": "i", "prompt": "q", "completion": "a"}, "q", {"instruction (kept, not read)": 1}),
    ],
)
def test_every_part_of_a_question_is_read_or_said(row, asked, dropped, name):
    loaded = read([row], name)
    assert chats(loaded) == [[("user", asked), ("assistant", "a")]]
    assert loaded.dropped == dropped


def test_the_context_of_a_preference_is_below_its_question():
    read_all = [{"question": "q", "context": "c", "chosen": "a", "rejected": "b"}]
    assert "DPO" in refusal(read_all)
    assert chats(load("data/raw/my.jsonl#chosen")) == [[("user", "q\n\nc"), ("assistant", "a")]]


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
def test_columns_of_one_meaning_fill_each_others_gaps(name):
    tool = json.dumps([ADD])
    empty = {"system": "", "tools": "[]", "reasoning_content": ""}
    first = {"system": "s", "tools": tool, "reasoning_content": "r"}
    second = {"system_prompt": "s", "functions": tool, "complex_cot": "r"}
    blank = dict.fromkeys(second, "")
    rows = [
        {"question": "q", "answer": "a", **one} for one in (first | blank, empty | second, first | second)
    ]
    loaded = read(rows, name)
    assert [conversation(row) for row in loaded.table.to_pylist()] == [
        ([{"role": "system", "content": "s"}, ASK, {**ANSWER, "reasoning_content": "r"}], [ADD])
    ] * 3
    assert loaded.dropped == {
        "system_prompt beside another system message": 1,
        "functions beside tools": 1,
        "complex_cot beside reasoning_content": 1,
    }


@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.parquet"])
@pytest.mark.parametrize(
    ("answer", "advice"),
    [({"name": "salt", "grams": 2}, "jq -c '.completion |= tojson'"), (3, "jq -c '.completion |= tostring'")],
)
def test_answers_that_are_objects_or_numbers_get_advice(answer, advice, name):
    assert advice in refusal([{"prompt": "q", "completion": answer}], name)


@pytest.mark.parametrize("name", ["my.jsonl", "my.json"])
def test_history_as_messages_and_what_a_tool_gives_as_an_object(name):
    rows = [{"query": "q", "response": "a", "history": [ASK, ANSWER]}]
    assert told(read(rows, name)) == [[ASK, ANSWER, ASK, ANSWER]]
    called = {"role": "assistant", "content": "", "tool_calls": [call("add", {})]}
    rows = [{"messages": [ASK, called, {"role": "tool", "content": {"temp": 3}}, ANSWER]}]
    assert told(read(rows, name)) == [[ASK, called, {"role": "tool", "content": '{"temp": 3}'}, ANSWER]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"messages": "[]"}], "jq -c '.messages |= fromjson'"),
        ([{"system": "SYSTEM: x", "chat": "USER: q"}], "glaive chats"),
        ([{"context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}}], "SQuAD"),
        ({"version": "1", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": []}]}]}, "SQuAD"),
        ([{"prompt": "q", "text": "a"}], "the columns have no layout that is understood"),
    ],
)
@pytest.mark.parametrize("name", ["my.jsonl", "my.json"])
def test_what_is_refused_says_what_it_is(rows, said, name):
    assert said in refusal(rows if isinstance(rows, list) else json.dumps(rows), name)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("my.csv", "prompt,completion\nq,a\n", "CSV is not read"),
        ("my.tsv", "prompt\tcompletion\nq\ta\n", r"sep='\t'"),
        ("my.jsonl", "<!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML page"),
        ("my.json", "\n<html>", "an HTML page"),
        *(
            (name, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull")
            for name in ("my.jsonl", "my.json.gz", "my.parquet")
        ),
    ],
)
def test_files_that_are_refused_by_their_own_name(name, content, said):
    Path("data/raw", name).write_text(content)
    with pytest.raises(UserError) as error:
        load(f"data/raw/{name}")
    assert said in str(error.value) and f"data/raw/{name}" in str(error.value)


# Bad input


def test_what_is_nested_deeply_in_an_unused_column_is_left_out():
    deep = "[" * 500 + "]" * 500
    line = '{"prompt": "q", "completion": "a", "deep": %s}\n'
    for name, text in (("my.jsonl", line % deep * 2), ("my.json", f"[{line % deep}, {line % deep}]")):
        loaded = read(text, name)
        assert (len(loaded.table), loaded.rejects) == (2, [])
    # So deep that Arrow's parser would end the process.
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deeper = line % (opening * 100_000 + "1" + closing * 100_000)
        loaded = read(deeper + '{"prompt": "q", "completion": "a"}\n' * 2)
        assert len(loaded.table) == 2
        assert rejected(loaded) == [(0, "invalid JSON: line 1: nested too deeply")]


@pytest.mark.parametrize("depth", [30, 500, 900])
@pytest.mark.parametrize("name", ["my.jsonl", "my.json"])
def test_what_is_nested_deeply_in_a_used_column_is_a_reject(depth, name):
    deep: Any = "x"
    for _ in range(depth):
        deep = [deep]
    for row in (
        {"prompt": "q", "completion": deep},
        {"prompt": "q", "completion": "a", "tools": deep},
        {"prompt": "q", "completion": "a", "history": deep},
        {"messages": [ASK, {**ANSWER, "tool_calls": deep}]},
        {"messages": [ASK, {**ANSWER, "content": deep}]},
    ):
        good = {key: value for key, value in row.items() if key != "history"}
        good |= {"completion": "a", "tools": None} if "prompt" in row else {"messages": [ASK, ANSWER]}
        lines = [json.dumps(row) for row in (good, row, good)]
        text = "\n".join(lines) if name.endswith("l") else f"[{', '.join(lines)}]"
        loaded = read(text, name)
        assert len(loaded.table) == 2 and len(loaded.rejects) == 1


@pytest.mark.parametrize("name", ["my.jsonl", "my.json"])
def test_numbers_that_are_none(name):
    lines = [
        '{"instruction": "q", "input": NaN, "output": "a", "score": NaN}',
        '{"instruction": "q", "input": "i", "output": "a", "score": Infinity}',
        '{"instruction": "q", "input": "i", "output": NaN, "score": 1}',
        '{"instruction": "q", "input": "i", "output": "a", "score": 123456789012345678901234567890}',
        '{"instruction": "q", "input": "i", "output": "a", "score": 1e999}',
    ]
    text = "\n".join(lines) if name.endswith("l") else f"[{', '.join(lines)}]"
    loaded = read(text, name)
    assert [row[0][1] for row in chats(loaded)] == ["q", "q\n\ni", "q\n\ni", "q\n\ni"]
    assert rejected(loaded) == [(2, "missing content")]
    digits = '{"prompt": "q", "completion": "a", "n": ' + "9" * 5_000 + "}\n"
    loaded = read(digits + '{"prompt": "q", "completion": "a"}\n[]\n', "digits.jsonl")
    assert rejected(loaded)[0] == (0, "invalid JSON: line 1: a number of too many digits")


def test_not_a_number_in_tools():
    row = (
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": '
    )
    call_ = '[{"name": "add", "arguments": {"x": %s}}]}]}\n'
    loaded = read(row + call_ % "NaN" + row + call_ % "1")
    assert rejected(loaded) == [(0, "tool calls that cannot be read")]


def test_keys_of_any_kind():
    rows = '{"": 1, "prompt": "q", "completion": "a", "pro mpt": 2, "é": [1]}\n'
    assert read(rows).dropped == {"é": 1}
    twice = read(rows + '{"prompt": "x", "prompt": "q", "completion": "a"}\n')
    assert chats(twice) == [[("user", "q"), ("assistant", "a")]] * 2
    assert "no line of it is a JSON object" in refusal('{1: "q"}\n')
    maps = pa.array([[(1, "x")]], pa.map_(pa.int64(), pa.string()))
    pq.write_table(pa.table({"prompt": ["q"], "completion": ["a"], "m": maps}), "data/raw/maps.parquet")
    assert load("data/raw/maps.parquet").dropped == {"m": 1}
    pq.write_table(pa.table({"prompt": maps, "completion": ["a"]}), "data/raw/maps.parquet")
    assert rejected(load("data/raw/maps.parquet")) == [(0, "content is not text")]
    names = pa.table([["q"], ["a"], ["a"]], names=["prompt", "completion", "completion"])
    pq.write_table(names, "data/raw/names.parquet")
    with pytest.raises(UserError, match="several columns have one name"):
        load("data/raw/names.parquet")


def test_a_byte_order_mark_is_named():
    assert "byte order mark" in refusal(b"\xef\xbb\xbf" + b'{"prompt": "q", "completion": "a"}\n')
    assert "byte order mark" in refusal(gzip.compress(b"\xef\xbb\xbf{}"), "my.jsonl.gz")
