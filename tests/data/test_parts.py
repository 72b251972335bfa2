"""Files cut into tiny parts, blocks and batches give what they give as a whole."""

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.core.errors import UserError
from sft.data import json_files, parquet_bounds, parquet_files, raw_rows, text_files
from sft.data.file_readers import parts, read, read_part
from sft.data.raw_rows import Raw, UnreadableFile, joined
from tests.data.test_random_rows import VALUES, rows
from tests.fuzzing import cases

KTO = {"prompt": "q", "completion": "a"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.jsonl"


def sent(value: Any) -> Any:
    """Return what another process gets."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301


def told(raw: Raw | str) -> Any:
    """Return all that reading gives, in a form in which NaN equals NaN."""
    if isinstance(raw, str):
        return raw
    return raw.table.schema, repr(raw.table.to_pylist()), list(raw.numbers), raw.rejects, raw.mixed


def whole(path: Path) -> Raw | str:
    try:
        return read(path, "my")
    except UserError as error:
        return str(error)


def in_pieces(path: Path, block: int, rows: int = 2) -> Raw | str:
    """Read a file in blocks of so many bytes, parts of at least one of them and batches of so many rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK", block)
        patch.setattr(json_files, "_LARGE", 0)
        patch.setattr(json_files, "_ROWS", rows)
        patch.setattr(parquet_files, "_ROWS", rows)
        patch.setattr(raw_rows, "_ROWS", rows)
        try:
            found = sent(parts(path, "my", 2 * block))
            raws = [list(read_part(part)) for part in found]
        except UserError as error:
            return str(error)
    for part, of_part in zip(found, raws, strict=True):
        assert of_part and all(len(raw.table) <= rows for raw in of_part)
        assert not of_part[0].numbers or of_part[0].numbers[0] >= part.first
    return joined([raw for of_part in raws for raw in of_part])


def lines(made: list[Any]) -> bytes:
    return "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in made).encode()


BLANK_OR_BROKEN = st.sampled_from(["\n", "  \n", "{\n", "null\n", "5\n", "[]\n", '{"prompt": "q"\n'])


@st.composite
def files(draw: Any) -> list[Any]:
    """Draw rows that mostly have the same columns, some whose values are of several types, and bad lines."""
    made: list[Any] = [row for few in draw(st.lists(rows(), min_size=1, max_size=3)) for row in few]
    names = draw(
        st.lists(st.sampled_from(["label", "score", "query", "answers", "choices", "x"]), max_size=2)
    )
    odd = st.one_of(VALUES, st.sampled_from([1, 0, 1.0, 2**60, 0.5, None, "yes", "a", ["a"], {"b": 1}]))
    for row in made:
        row |= {name: draw(odd) for name in names if draw(st.booleans())}
    for at in draw(st.lists(st.integers(0, len(made)), max_size=1)):
        made.insert(at, draw(BLANK_OR_BROKEN))
    return made


@cases(1.0)
@given(files(), st.integers(1, 200), st.sampled_from(["jsonl", "jsonl.gz", "json"]))
def check_json(folder: Path, made: list[Any], block: int, ending: str) -> None:
    path = folder / f"my.{ending}"
    content = lines(made)
    if ending == "json":
        content = json.dumps([row for row in made if not isinstance(row, str)]).encode()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    assert told(in_pieces(path, block)) == told(whole(path))


def test_random_json(tmp_path: Path) -> None:
    check_json(tmp_path)


@cases(0.3)
@given(
    st.lists(
        st.tuples(st.sampled_from(["q", None, "é" * 50]), st.sampled_from([0, 1, None, 2])), max_size=30
    ),
    st.integers(1, 8),
)
def check_parquet(folder: Path, made: list[tuple[str | None, int | None]], group: int) -> None:
    table = pa.table(
        {
            "prompt": pa.array([prompt for prompt, _ in made], pa.string()),
            "completion": pa.array(["a"] * len(made), pa.string()).dictionary_encode(),
            "label": pa.array([label for _, label in made], pa.int64()),
        }
    )
    pq.write_table(table, folder / "my.parquet", row_group_size=group)
    assert told(in_pieces(folder / "my.parquet", 50)) == told(whole(folder / "my.parquet"))


def test_random_parquet(tmp_path: Path) -> None:
    check_parquet(tmp_path)


MIXED = {
    "integers, then a double": [{"n": 1}, {"n": 2}, {"n": 1.5}],
    "an integer that is no double, then a double": [{"n": 2**60}, {"n": 2}, {"n": 1.5}],
    "a double, then an integer that is none": [{"n": 1.5}, {"n": 2}, {"n": 2**60}],
    "numbers, then a text": [{"n": 1}, {"n": 2}, {"n": "x"}],
    "a number, then texts": [{"n": 1}, {"n": "x"}, {"n": "y"}],
    "texts, then parts": [
        {"messages": [{"role": "user", "content": "q"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]},
        {"messages": [{"role": "user", "content": 5}]},
    ],
    "a column that comes late": [{"a": "q"}, {"a": "q"}, {"a": "q", "b": {"messages": []}}],
    "plain, then nested": [{"a": 1, "x": "q"}, {"a": "q", "x": "q"}, {"a": 2, "x": ["q"]}],
    "choices that are no texts": [{"choices": ["a", "b"]}, {"choices": ["a"]}, {"choices": [1]}],
    "answers of a query": [{"answers": ["a"]}, {"answers": "[]"}, {"query": "q", "answers": [{"name": "f"}]}],
    "fields that are new": [{"m": {"b": 1}}, {"m": {"a": 1}}, {"m": {"c": 1, "b": 2}}],
    "a date, then none": [{"d": "2024-01-01"}, {"d": "2024-01-02"}, {"d": "today"}],
    "tools that come late": [{"a": "q"}, {"a": "q"}, {"a": "q", "tools": [{"name": "f"}]}],
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("by_python", [False, True])
def test_types_that_later_rows_decide(path: Path, name: str, by_python: bool) -> None:
    made = [*MIXED[name], *(["null\n"] if by_python else [])]
    path.write_bytes(lines(made))
    for rows_first in (made, made[::-1]):
        path.write_bytes(lines(rows_first))
        first = whole(path)
        assert isinstance(first, Raw) and told(in_pieces(path, 1)) == told(first)


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize(
    ("labels", "are_flags"),
    [([1, 0, None, 1], True), ([None, None, 1, 0], True), ([1, 0, 1, 2], False), ([2, 0, 1, 1], False)],
)
def test_whether_a_label_is_a_verdict_is_decided_by_all_rows(
    tmp_path: Path, ending: str, labels: list[int | None], are_flags: bool
) -> None:
    made = [{**KTO, "label": label} for label in labels]
    path = tmp_path / f"my.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(made), path, row_group_size=1)
    else:
        path.write_bytes(json.dumps(made).encode() if ending == "json" else lines(made))
    for raw in (whole(path), in_pieces(path, 1, rows=1)):
        assert isinstance(raw, Raw)
        assert raw.table["label"].type == (pa.bool_() if are_flags else pa.int64())
        assert raw.table["label"].to_pylist() == labels


def test_parts_of_a_large_file_share_its_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [{"prompt": f"q{n}", "completion": "a" * (n % 7)} for n in range(500)]
    path.write_bytes(lines(made))
    monkeypatch.setattr(text_files, "BLOCK", 1000)
    assert len(parts(path)) == 1
    monkeypatch.setattr(json_files, "_LARGE", 0)
    found = parts(path, size=5000)
    assert len(found) > 3 and sum(part.size for part in found) == path.stat().st_size
    assert joined([raw for part in found for raw in read_part(part)]).table.to_pylist() == made


@pytest.mark.parametrize(
    "text", ['{"data": [\n{"prompt": "q"},\n{"prompt": "r"}\n]}', '\n\n{"messages": null}']
)
def test_a_large_file_of_one_object_is_not_cut_at_its_lines(path: Path, text: str) -> None:
    path.write_text(text)
    assert told(in_pieces(path, 1)) == told(whole(path)) and isinstance(whole(path), Raw)


def test_row_groups_share_a_part_until_it_has_its_size(tmp_path: Path) -> None:
    table = pa.table({"prompt": [f"q{n:02}" * 50 for n in range(100)], "completion": ["a"] * 100})
    pq.write_table(table, tmp_path / "my.parquet", row_group_size=10, use_dictionary=False)
    group = pq.read_metadata(tmp_path / "my.parquet").row_group(0).total_byte_size
    found = parts(tmp_path / "my.parquet", size=3 * group)
    assert [part.piece for part in found] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert [part.first for part in found] == [0, 30, 60, 90]
    assert len(parts(tmp_path / "my.parquet")) == 1


def test_long_rows_of_a_later_part_have_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "ROW", 1000)
    table = pa.table({"prompt": ["q", "x" * 2000, "q", "q"], "completion": ["a"] * 4})
    pq.write_table(table, tmp_path / "my.parquet", row_group_size=1)
    found = parts(tmp_path / "my.parquet", "my", 1)
    raw = joined([raw for part in found for raw in read_part(part)])
    assert len(found) == 4 and raw.numbers == [0, 2, 3] and [reject.row for reject in raw.rejects] == [1]


def test_a_value_that_repeats_without_end_is_found_in_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_bounds, "_MOST_OF_BATCH", 5_000)
    table = pa.table({"prompt": ["q"] * 20 + ["x" * 500] * 40, "completion": ["a"] * 60})
    pq.write_table(table, tmp_path / "my.parquet", row_group_size=20)
    first, *others = parts(tmp_path / "my.parquet", "my", 1)
    assert sum(len(raw.table) for raw in read_part(first)) == 20
    with pytest.raises(UnreadableFile, match="values of prompt repeat to"):
        list(read_part(others[0]))


def test_a_damaged_file_tells_its_rows_as_far_as_its_footer_does(tmp_path: Path) -> None:
    path = tmp_path / "my.parquet"
    texts = [f"question {n} of many" for n in range(1000)]
    pq.write_table(
        pa.table({"prompt": texts, "completion": texts}), path, compression="none", row_group_size=500
    )
    content = bytearray(path.read_bytes())
    content[20:60] = b"\xff" * 40
    path.write_bytes(content)
    damaged, whole_one = parts(path, "my", 1)
    assert sum(len(raw.table) for raw in read_part(whole_one)) == 500
    with pytest.raises(UnreadableFile, match="my: not a readable Parquet file") as error:
        list(read_part(damaged))
    assert error.value.rows == 1000
    assert sent(error.value).rows == 1000
    path.write_bytes(content[:-4])
    with pytest.raises(UnreadableFile, match="truncated") as error:
        parts(path)
    assert error.value.rows == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("my.jsonl", b""),
        ("my.jsonl", b" \n"),
        ("my.jsonl", b"Once upon\na time\n"),
        ("my.jsonl", b'{"prompt": "\xff"}\n'),
        ("my.jsonl", b"<html></html>"),
        ("my.json", b'[{"prompt": "q"'),
        ("my.json", b"[]"),
        ("my.jsonl.gz", gzip.compress(b'{"prompt": "q"}\n' * 500)[:-9]),
        ("my.jsonl.zst", b"{}"),
    ],
)
def test_what_is_unreadable(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableFile):
        read(path)


@pytest.mark.parametrize("name", ["my.csv", "my.jsonl"])
def test_what_is_read_but_not_understood_is_no_fault_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"[1]\n[2]\n")
    with pytest.raises(UserError) as error:
        read(path)
    assert not isinstance(error.value, UnreadableFile)
