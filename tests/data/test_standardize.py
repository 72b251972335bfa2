"""Shapes, roles and faults of raw rows, as sft.data.standardize standardizes them."""

import pyarrow as pa
import pytest
import xxhash

from sft.core.errors import UserError
from sft.core.row_schema import SCHEMA
from sft.data.standardize import standardize


def chats(table: pa.Table) -> list[list[tuple[str, str]]]:
    return [[(m["role"], m["content"]) for m in row] for row in table["messages"].to_pylist()]


def standardized(rows: list[dict], **options) -> list[list[tuple[str, str]]]:
    read = standardize(pa.Table.from_pylist(rows), "test", **options)
    assert not read.rejects
    return chats(read.table)


def reasons(rows: list[dict]) -> list[tuple[int, str]]:
    return [(reject.row, reject.why()) for reject in standardize(pa.Table.from_pylist(rows), "test").rejects]


def sharegpt(*turns: tuple[str | None, str | None]) -> dict:
    return {"conversations": [{"from": role, "value": value} for role, value in turns]}


ASKED = [("user", "Salt?"), ("assistant", "A pinch.")]


@pytest.mark.parametrize(
    "row",
    [
        sharegpt(("human", "Salt?"), ("gpt", "A pinch.")),
        {
            "conversations": [
                {"role": "user", "content": "Salt?"},
                {"role": "assistant", "content": "A pinch."},
            ]
        },
        {"messages": [{"role": "user", "content": "Salt?"}, {"role": "assistant", "content": "A pinch."}]},
        {"instruction": "Salt?", "output": "A pinch."},
        {"instruction": "Salt?", "input": "", "output": "A pinch."},
        {"instruction": "Salt?", "input": None, "output": "A pinch."},
        {"Instruction": "Salt?", "Output": "A pinch."},
        {"prompt": "Salt?", "completion": "A pinch."},
        {"prompt": "Salt?", "response": "A pinch."},
        {"question": "Salt?", "answer": "A pinch."},
        {"system_prompt": "", "question": "Salt?", "response": "A pinch."},
        {
            "prompt": [{"role": "user", "content": "Salt?"}],
            "completion": [{"role": "assistant", "content": "A pinch."}],
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Sal"}, {"type": "text", "text": "t?"}],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "A pinch."}]},
            ]
        },
        {"prompt": "left out", "prompt_id": "7", **sharegpt(("user", "Salt?"), ("model", "A pinch."))},
    ],
)
def test_every_shape_gives_the_same_conversation(row):
    read = standardize(pa.Table.from_pylist([row]), "test")
    assert chats(read.table) == [ASKED]
    assert read.table.schema.names[: len(SCHEMA)] == SCHEMA.names
    assert read.table.select(SCHEMA.names).schema == SCHEMA
    # One conversation, one id: whatever the shape that it came in.
    assert read.table["id"].to_pylist() == [xxhash.xxh3_128_hexdigest(b"user:5:Salt?assistant:8:A pinch.")]
    assert read.table["item"] == read.table["id"]


def test_input_is_put_below_the_instruction():
    rows = [
        {"instruction": "Shorten.", "input": "Very long", "output": "Long"},
        {"instruction": "", "input": "Hello", "output": "Hi"},
    ]
    assert [row[0] for row in standardized(rows)] == [("user", "Shorten.\n\nVery long"), ("user", "Hello")]


def test_system_column_comes_first_unless_the_conversation_has_its_own():
    own = sharegpt(("system", "mine"), ("human", "q"), ("gpt", "a"))
    none = sharegpt(("human", "q"), ("gpt", "a"))
    rows = [{**own, "system": "theirs"}, {**none, "system": "theirs"}, {**none, "system": " "}]
    assert [row[0] for row in standardized(rows)] == [("system", "mine"), ("system", "theirs"), ("user", "q")]
    alpaca = {"system": "Be brief.", "instruction": "q", "output": "a"}
    assert standardized([alpaca]) == [[("system", "Be brief."), ("user", "q"), ("assistant", "a")]]


@pytest.mark.parametrize(
    ("alias", "role"),
    [(alias, "user") for alias in ("human", "User", "prompter", "INPUT")]
    + [(alias, "assistant") for alias in ("gpt", "ChatGPT", "bing", "bard", "model", "AI", "bot", "output")]
    + [(alias, "assistant") for alias in ("chatbot", "Assistant ")]
    + [(alias, "system") for alias in ("system", "system_prompt", "developer")]
    + [(alias, "tool") for alias in ("tool", "function", "function_response", "function-response", "ipython")]
    + [(alias, "tool") for alias in ("observation", "tool_response", "Tool Response")],
)
def test_role_aliases(alias, role):
    assert standardized([sharegpt(("human", "q"), (alias, "x"), ("gpt", "a"))])[0][1] == (role, "x")


def test_contents_are_kept_to_the_byte():
    value = "  \u2028 trailing\r\n\n\u00e9e\u0301 \U0001f35e\t"
    assert standardized([sharegpt(("human", value), ("gpt", value))])[0] == [
        ("user", value),
        ("assistant", value),
    ]


def test_rejects_name_row_and_reason_and_lose_nothing_else():
    good = sharegpt(("human", "q"), ("gpt", "a"))
    rows = [
        good,
        sharegpt(("human", "q"), ("narrator", "x"), ("gpt", None)),
        sharegpt(("human", "q"), (None, "a")),
        good,
        sharegpt(("human", "q"), ("gpt", None)),
        sharegpt(("human", "q"), ("gpt", " \n")),
        {"conversations": []},
        {"conversations": None},
        sharegpt(("system", "s"), ("human", "q")),
        sharegpt(("system", None), ("human", "q"), ("gpt", "a2")),
    ]
    read = standardize(pa.Table.from_pylist(rows), "test", "file.json")
    assert [(reject.source, reject.row, reject.why()) for reject in read.rejects] == [
        ("file.json", 1, "unknown role: 'narrator'"),
        ("file.json", 2, "missing role"),
        ("file.json", 4, "missing content"),
        ("file.json", 5, "blank content"),
        ("file.json", 6, "no messages"),
        ("file.json", 7, "no messages"),
        ("file.json", 8, "no assistant turn"),
    ]
    assert "narrator" in read.rejects[0].text
    good_chat = [("user", "q"), ("assistant", "a")]
    assert chats(read.table) == [good_chat, good_chat, [("user", "q"), ("assistant", "a2")]]
    assert len(set(read.table["id"].to_pylist())) == 2


def test_tool_calls_need_no_text():
    call = [{"function": {"name": "f", "arguments": "{}"}}]
    turns = [{"role": "user", "content": "q", "tool_calls": None}]
    silent = {"role": "assistant", "content": None, "tool_calls": call}
    spoken = {"role": "assistant", "content": "Calling.", "tool_calls": call}
    no_call = {"role": "assistant", "content": "a", "tool_calls": []}
    nothing = {"role": "assistant", "content": None, "tool_calls": []}
    rows = [{"messages": [*turns, last]} for last in (silent, spoken, no_call, nothing)]
    assert reasons(rows) == [(3, "missing content")]


def test_parts_that_are_no_text_are_rejected():
    def answered(*kinds: str) -> dict:
        parts = [{"type": kind, "text": "t" if kind == "text" else None} for kind in kinds]
        return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": parts[:1]}]}

    kinds = [("text",), ("text", "image"), ("text", "text"), ("text", "tool_use"), ("text", "input_audio")]
    multimodal = "multimodal row: only text is trained on"
    wanted = [(1, multimodal), (3, "content is not text"), (4, multimodal)]
    assert reasons([answered(*of_row) for of_row in kinds]) == wanted


def test_content_that_is_no_text_is_rejected():
    assert reasons([{"messages": [{"role": "user", "content": {"a": 1}}]}]) == [(0, "content is not text")]


def test_scalar_columns_are_kept_beside_their_rows():
    rows = [
        {
            **sharegpt(("human", "q"), ("gpt", answer)),
            "source": name,
            "id": "7",
            "score": score,
            "tags": ["x"],
        }
        for answer, name, score in (("a", "web", 0.5), (None, "lost", 0.6), ("c", "book", 0.7))
    ]
    table = standardize(pa.Table.from_pylist(rows), "test").table
    assert table.column_names == [*SCHEMA.names, "origin", "origin_id", "score"]
    assert table["source"].to_pylist() == ["test", "test"]
    assert table["origin"].to_pylist() == ["web", "book"]
    assert table["score"].to_pylist() == [0.5, 0.7]
    assert set(table["id"].to_pylist()).isdisjoint({"7"})


def test_columns_of_many_rows_stay_in_step():
    rows = [{"system": f"s{n}", "instruction": f"q{n}", "output": f"a{n}"} for n in range(500)]
    wanted = [[("system", f"s{n}"), ("user", f"q{n}"), ("assistant", f"a{n}")] for n in range(500)]
    assert standardized(rows) == wanted


def test_batches_and_slices_keep_rows_together():
    rows = [
        sharegpt(*[("human", f"q{n}"), ("gpt", f"a{n}")] * (n % 3 + 1))
        if n % 5
        else sharegpt(("human", f"q{n}"))
        for n in range(20_000)
    ]
    table = pa.concat_tables(
        [pa.Table.from_pylist(rows[:7_000]), pa.Table.from_pylist(rows[6_000:]).slice(1_000)]
    )
    read = standardize(table, "test")
    assert [reject.row for reject in read.rejects] == list(range(0, 20_000, 5))
    kept = [n for n in range(20_000) if n % 5]
    assert chats(read.table) == [[("user", f"q{n}"), ("assistant", f"a{n}")] * (n % 3 + 1) for n in kept]


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_string_types(kind):
    message = pa.struct(
        [("from", kind if not pa.types.is_string_view(kind) else pa.string()), ("value", kind)]
    )
    flat = pa.StructArray.from_arrays(
        [pa.array(["human", "gpt"]).cast(message[0].type), pa.array(["q", "a"]).cast(kind)],
        fields=list(message),
    )
    lists = pa.LargeListArray.from_arrays(pa.array([0, 2], pa.int64()), flat)
    read = standardize(pa.table({"conversations": lists}), "test")
    assert chats(read.table) == [[("user", "q"), ("assistant", "a")]]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{"line": "once", "label": 1}], "line (string), label (int64)"),
        ([{"turns": "q: a"}], "turns (string)"),
        ([{"messages": [{"speaker": "a", "line": "b"}]}], "speaker"),
        ([{"messages": ["a", "b"]}], "string"),
    ],
)
def test_unknown_shapes_are_named(rows, found):
    with pytest.raises(UserError) as error:
        standardize(pa.Table.from_pylist(rows), "test", "data/raw/x.jsonl")
    assert "data/raw/x.jsonl" in str(error.value)
    assert found in str(error.value)
    assert "role and content" in str(error.value)


def test_no_rows():
    empty = pa.table({"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())})
    assert standardize(empty, "test").table.schema == SCHEMA
