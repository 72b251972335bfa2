"""Files of random rows, whole and damaged: each row is counted once, or the file is refused in a sentence."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sft.core.errors import UserError
from sft.core.row_schema import content_ids, conversation
from sft.data.columns import MEDIA, READ
from sft.data.layouts import LAYOUTS
from sft.data.message_columns import CONTENT_KEYS, KEYS, ROLE_KEYS
from sft.data.sources import Loaded, load
from tests.fuzzing import cases

ODD = [
    "",
    " ",
    "q",
    "<think>r</think>a",
    "<think>",
    "[]",
    '{"name": "f"}',
    "2024-01-01",
    "null",
    "é",
    "\0",
    "\u2028",
]
ODD += [
    "\n\nHuman: a\n\nAssistant: b",
    "<image>",
    "\ud800",
    "\ufeff",
    "1e999999",
    "9" * 5000,
    "[" * 2000,
    "😀",
]
TEXTS = st.one_of(st.sampled_from(ODD), st.text(max_size=8))
NUMBERS = st.sampled_from([1, 0, -1, 1.5, True, False, float("nan"), float("inf"), 10**30, 10**400, 2**63])
USUAL = st.sampled_from(["user", "assistant", "human", "gpt", "system", "tool"])
ROLES = st.one_of(USUAL, USUAL, USUAL, st.sampled_from(["function_call", None, "narrator", 5, "\ud800"]))
FIELDS = st.sampled_from([*KEYS, "function", "arguments", "type", "parameters", ""])
VALUES = st.recursive(
    st.one_of(st.none(), TEXTS, NUMBERS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(FIELDS, inner, max_size=3)),
    max_leaves=6,
)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=2)
PLAIN = st.sampled_from(["q", "a", "b"])
CONTENTS = st.one_of(*[PLAIN] * 8, TEXTS, st.none(), PARTS, VALUES)


@st.composite
def message(draw: Any) -> dict[str, Any]:
    told = {
        draw(st.sampled_from(ROLE_KEYS)): draw(ROLES),
        draw(st.sampled_from(CONTENT_KEYS)): draw(CONTENTS),
    }
    return told | draw(st.one_of(*[st.just({})] * 3, st.dictionaries(FIELDS, VALUES, max_size=1)))


MESSAGES = st.lists(message(), max_size=4)
CELLS = {
    "text": st.one_of(*[PLAIN] * 8, st.none()),
    "odd": TEXTS,
    "messages": MESSAGES,
    "any": VALUES,
    "pairs": st.just([["a", "b"]]),
    "flag": st.booleans(),
}


@st.composite
def rows(draw: Any) -> list[dict[str, Any]]:
    """Draw rows of a layout and other columns, each of one shape but for a few values."""
    columns = dict(draw(st.sampled_from(LAYOUTS)).example[0])
    others = st.sampled_from(sorted({*READ, *MEDIA, "id", "source", "choices"}))
    columns |= dict.fromkeys(draw(st.lists(others, max_size=2)))
    shapes = {name: draw(st.sampled_from([*["text"] * 8, *CELLS])) for name in columns}
    shapes |= {name: "messages" for name, example in columns.items() if isinstance(example, list)}
    made = []
    for _ in range(draw(st.integers(1, 5))):
        odd = draw(st.sampled_from([*columns, *[None] * 4 * len(columns)]))
        made.append({name: draw(VALUES if name == odd else CELLS[kind]) for name, kind in shapes.items()})
    return made


def written(made: list[dict[str, Any]], ending: str) -> bytes | None:
    """Return the rows as such a file has them, None where it cannot."""
    if ending == "parquet":
        sink = pa.BufferOutputStream()
        try:
            pq.write_table(pa.Table.from_pylist(made), sink)
        except (pa.ArrowException, OverflowError, UnicodeError, ValueError):
            return None
        return sink.getvalue().to_pybytes()
    text = (
        json.dumps(made)
        if ending.startswith("json.") or ending == "json"
        else "\n".join(map(json.dumps, made))
    )
    packers: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstandard.compress}
    return packers.get(ending.rpartition(".")[2], bytes)(text.encode())


ENDINGS = ["jsonl", "json", "parquet", "jsonl.gz", "json.zst"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def loaded_twice(address: str) -> Loaded | None:
    """Load a source twice: both times the same, or refused in the same words, which name the file."""
    outcomes: list[Any] = []
    for _ in range(2):
        try:
            outcomes.append(load(address))
        except UserError as error:
            assert address.partition("#")[0] in str(error) and len(str(error)) < 5_000
            outcomes.append(str(error))
    first, second = outcomes
    if isinstance(first, str):
        assert first == second
        return None
    assert first.table.equals(second.table) and first.rejects == second.rejects
    return first


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_row_is_counted_once(ending, here):
    read = 0

    @cases(0.4)
    @given(rows(), st.sampled_from(["", "#chosen"]))
    def tried(made, choice):
        nonlocal read
        path = f"my.{ending}"
        content = written(made, ending)
        if content is None:
            return
        Path(path).write_bytes(content)
        loaded = loaded_twice(path + choice)
        if loaded is None:
            return
        read += 1
        assert len(loaded.table) + len(loaded.rejects) + sum(loaded.skipped.values()) == len(made)
        assert len({reject.row for reject in loaded.rejects}) == len(loaded.rejects)
        ids = content_ids(loaded.table["messages"], loaded.table["tools"])
        assert loaded.table["id"].equals(pa.chunked_array([ids]))
        for row in loaded.table.to_pylist():
            told, _ = conversation(row)
            assert all(one["content"] or one.get("tool_calls") or one["role"] == "tool" for one in told)

    tried()
    assert read >= 5


def test_a_row_has_the_same_id_in_every_kind_of_file(here):
    compared = 0

    @cases(0.2)
    @given(rows())
    def tried(made):
        nonlocal compared
        ids = []
        for ending in ("jsonl", "json", "jsonl.gz"):
            Path(f"my.{ending}").write_bytes(written(made, ending) or b"")
            loaded = loaded_twice(f"my.{ending}")
            ids.append(None if loaded is None else loaded.table["id"].to_pylist())
        assert ids[0] == ids[2]
        if ids[0] is not None and ids[1] is not None:
            compared += 1
            assert ids[0] == ids[1]

    tried()
    assert compared


def test_damaged_files(here):
    """A file that is cut off, or has bytes of another, is read, or refused in a sentence."""

    @cases(1.0)
    @given(rows(), st.sampled_from(ENDINGS), st.sampled_from(ENDINGS), st.data())
    def tried(made, ending, named, data):
        content = written(made, ending) or b"{}"
        at = data.draw(st.integers(0, len(content)))
        noise = data.draw(st.one_of(st.binary(max_size=4), st.just(b"")))
        keep = data.draw(st.sampled_from([0, len(content)]))
        Path(f"my.{named}").write_bytes(content[:at] + noise + content[at + len(noise) : keep])
        loaded_twice(f"my.{named}")

    tried()


@cases(1.0)
@given(
    st.one_of(
        TEXTS, st.from_regex(r"(hf|pypi|s3|file)://[\w./@#=?+-]{0,30}", fullmatch=True), st.text(max_size=30)
    )
)
def test_addresses(address):
    from sft.fetch.uri import parse
    from stages.standardize import check_tracked

    try:
        parsed = parse(address)
        check_tracked(address)
        if parsed.scheme == "file" and Path(parsed.name).is_absolute():
            load(address)
    except UserError as error:
        assert str(error)
