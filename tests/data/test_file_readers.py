"""Data files, whole and faulty, as sft.data.file_readers reads them."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sft.core.errors import UserError
from sft.data import file_readers
from sft.data.file_readers import read
from sft.data.standardize import standardize
from sft.fetch.data_files import KINDS

ROWS = [{"prompt": f"question {n}", "completion": f"answer {n}", "score": n / 2} for n in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fault(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    assert str(path) in str(error.value)
    return str(error.value)


def chats(path: Path) -> tuple[list[list[str]], list[tuple[int, str]]]:
    """Return the contents of every row that passes, and the rejects, as `sft.data.sources` gets them."""
    raw = read(path, "test")
    done = standardize(raw.table, "test", None, raw.numbers, raw.mixed)
    contents = [[message["content"] for message in row] for row in done.table["messages"].to_pylist()]
    return contents, [(reject.row, reject.why()) for reject in raw.rejects + done.rejects]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", LINES),
        ("rows.ndjson", LINES.replace("\n", "\r\n")),
        ("rows.json", LINES.rstrip("\n")),
        ("array.json", json.dumps(ROWS, indent=2)),
        ("array.JSON", "\n  " + json.dumps(ROWS)),
        ("rows.jsonl.gz", gzip.compress(LINES.encode())),
        ("rows.json.zst", zstandard.compress(LINES.encode())),
        ("array.json.gz", gzip.compress(json.dumps(ROWS).encode())),
        ("blank.jsonl", "\n" + LINES.replace("\n", "\n\n")),
    ],
)
def test_json_forms(tmp_path, name, content):
    raw = read(written(tmp_path, name, content))
    assert raw.table.to_pylist() == ROWS
    assert not raw.rejects


def test_parquet(tmp_path):
    table = pa.Table.from_pylist(ROWS * 5000)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=3000)
    assert read(tmp_path / "rows.parquet").table.equals(table)


def test_text_that_looks_like_a_date_stays_text(tmp_path):
    messages = [{"from": "human", "value": "2024-01-01"}, {"from": "gpt", "value": "2024-01-01T00:00:00Z"}]
    path = written(tmp_path, "dates.jsonl", json.dumps({"conversations": messages, "day": "2024-05-05"}))
    assert chats(path) == ([["2024-01-01", "2024-01-01T00:00:00Z"]], [])
    assert read(path).table["day"].to_pylist() == ["2024-05-05"]


def test_invalid_lines_are_rejects_that_name_their_line(tmp_path):
    lines = [
        json.dumps(ROWS[0]),
        '{"prompt": "half',
        "",
        json.dumps(ROWS[1]),
        "[1, 2]",
        '{"prompt": "\\ud800", "completion": "a"}',
        "[" * 100_000,
        json.dumps(ROWS[2]),
        '{"prompt": "q", "completion": null}',
    ]
    contents, rejects = chats(written(tmp_path, "rows.jsonl", "\n".join(lines)))
    assert contents == [[f"question {n}", f"answer {n}"] for n in range(3)]
    assert rejects == [
        (1, "invalid JSON: line 2: Unterminated string starting at at column 12"),
        (4, "invalid JSON: line 5: not an object"),
        (5, "invalid JSON: line 6: half of a surrogate pair"),
        (6, "invalid JSON: line 7: nested too deeply"),
        (8, "missing content"),
    ]


def test_mixed_types_reject_the_odd_rows_only(tmp_path):
    rows = [*ROWS, {"prompt": 7, "completion": "x"}, {"prompt": ["a"], "completion": "x"}]
    rows += [{"prompt": "q", "completion": "a", "score": "high"}, {"prompt": "q", "completion": {"a": 1}}]
    path = written(tmp_path, "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    contents, rejects = chats(path)
    assert rejects == [(5, "mixed types"), (6, "mixed types"), (8, "mixed types")]
    # A kept column of mixed types loses the odd value, not the row.
    assert contents[5:] == [["q", "a"]]
    assert read(path).table["score"].to_pylist()[:8] == [0, 0.5, 1, 1.5, 2, None, None, None]


def test_mixed_types_within_messages(tmp_path):
    def row(*contents: object, **more: object) -> dict:
        roles = ("user", "assistant")
        turns = [{"role": role, "content": c, **more} for role, c in zip(roles, contents, strict=False)]
        return {"messages": turns}

    parts = [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]
    rows = [
        row("plain", "text"),
        row(parts, "text"),
        row("weight", "text", weight=1.5),
        row("calls", "text", tool_calls=[{"name": "f", "arguments": {"x": 1}}]),
        row("calls", "text", tool_calls=[{"name": "f", "arguments": {"x": "other type"}}]),
        row(5, "text"),
        row("one", 5),
        {"messages": "no list"},
        row("silent", "", tool_calls=[{"name": "f", "arguments": {}}]),
        row(None, None),
    ]
    for name, content in (
        ("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        ("rows.json", json.dumps(rows)),
    ):
        contents, rejects = chats(written(tmp_path, name, content))
        assert [pair[0] for pair in contents] == ["plain", "in parts", "weight", "calls", "calls", "silent"]
        assert rejects == [
            (5, "mixed types"),
            (6, "mixed types"),
            (7, "mixed types"),
            (9, "missing content"),
        ]


def test_mixed_types_are_shown(tmp_path):
    rows = [*ROWS, {"prompt": 7, "completion": "x"}]
    raw = read(written(tmp_path, "rows.json", json.dumps(rows)))
    assert standardize(raw.table, "test", None, raw.numbers, raw.mixed).rejects[0].text == "7"


def test_entries_of_an_array_that_are_no_objects(tmp_path):
    contents, rejects = chats(written(tmp_path, "rows.json", json.dumps([ROWS[0], 5, ROWS[1], None])))
    assert [pair[0] for pair in contents] == ["question 0", "question 1"]
    assert rejects == [
        (1, "invalid JSON: entry 2: not an object"),
        (3, "invalid JSON: entry 4: not an object"),
    ]


def test_long_lines_and_many(tmp_path):
    rows = [{"prompt": "q", "completion": "x" * 20_000_000}, *ROWS]
    path = written(tmp_path, "long.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    contents, rejects = chats(path)
    assert (len(contents), rejects) == (6, [])
    assert len(contents[0][1]) == 20_000_000


def test_missing_empty_and_unknown_files(tmp_path):
    assert "no such file" in fault(tmp_path / "none.jsonl")
    assert "empty" in fault(written(tmp_path, "empty.jsonl", ""))
    assert "empty" in fault(written(tmp_path, "empty.parquet", ""))
    assert "nothing in the file" in fault(written(tmp_path, "blank.json", " \n \n"))
    assert "nothing in the file" in fault(written(tmp_path, "empty.json.gz", gzip.compress(b"")))
    assert "holds no objects" in fault(written(tmp_path, "array.json", "[]"))
    for name in ("rows.txt", "rows.parquet.gz", "rows.jsonl.bz2", "rows"):
        assert "not a kind of file that is understood" in fault(written(tmp_path, name, LINES))


def test_truncated_files(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS * 100), tmp_path / "rows.parquet")
    whole = (tmp_path / "rows.parquet").read_bytes()
    for cut in (len(whole) // 2, len(whole) - 1, 2):
        assert "truncated" in fault(written(tmp_path, "cut.parquet", whole[:cut]))
    damaged = whole[:60] + bytes(200) + whole[260:]
    assert "not a readable Parquet file" in fault(written(tmp_path, "damaged.parquet", damaged))
    for name, packed in (
        ("cut.jsonl.gz", gzip.compress(LINES.encode() * 500)),
        ("cut.jsonl.zst", zstandard.compress(LINES.encode() * 500)),
        ("cut.json.gz", gzip.compress(json.dumps(ROWS * 500).encode())),
    ):
        for cut in (len(packed) - 1, len(packed) // 2, 12):
            assert "cannot be decompressed" in fault(written(tmp_path, name, packed[:cut]))
    assert "invalid JSON" in fault(written(tmp_path, "cut.json", json.dumps(ROWS)[:-9]))


def test_files_that_are_not_what_their_name_says(tmp_path):
    for name in ("plain.jsonl.gz", "plain.jsonl.zst", "plain.json.gz"):
        assert "cannot be decompressed" in fault(written(tmp_path, name, LINES))
    assert "not a readable Parquet file" in fault(written(tmp_path, "plain.parquet", LINES))
    assert "no line of it is a JSON object" in fault(written(tmp_path, "prose.jsonl", "Once upon\na time\n"))


@pytest.mark.parametrize("ending", ["jsonl", "json.gz", "json"])
def test_encodings(tmp_path, ending):
    def kept(content: bytes) -> Path:
        return written(
            tmp_path, f"rows.{ending}", gzip.compress(content) if ending.endswith("gz") else content
        )

    text = json.dumps(ROWS) if ending == "json" else LINES
    assert "without BOM" in fault(kept(text.encode("utf-8-sig")))
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        assert "UTF-16" in fault(kept(text.encode(encoding)))
    latin = text.replace("question 3", "quästion 3").encode("latin-1")
    assert f"byte 0xe4 at position {latin.index(0xE4):,}" in fault(kept(latin))
    # Also where Arrow gives up first and the lines are read one by one.
    assert f"byte 0xe4 at position {latin.index(0xE4) + 2:,}" in fault(
        kept(text[:0].encode() + b"\n\n" + latin)
    )


def test_position_of_a_bad_byte_far_into_a_file(tmp_path):
    filler = json.dumps({"prompt": "ä", "completion": "é" * 700}, ensure_ascii=False).encode() + b"\n"
    content = filler * 2000 + b'{"prompt": "\xff"}\n'
    assert f"byte 0xff at position {content.index(0xFF):,}" in fault(written(tmp_path, "a.jsonl", content))
    broken = filler * 2000 + b'{"prompt": "\xc3'
    assert "ends within a character" in fault(written(tmp_path, "b.jsonl", broken))


def test_parquet_text_that_is_not_utf8(tmp_path):
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
    )
    pq.write_table(pa.table({"prompt": text, "completion": ["a"]}), tmp_path / "rows.parquet")
    assert "UTF" in fault(tmp_path / "rows.parquet")


@pytest.mark.parametrize("text", ["null\n", "null", "3\n", '"text"\n'])
def test_a_file_of_one_json_value_is_rejected(tmp_path: Path, text: str) -> None:
    """Arrow's JSON parser ends the whole process on `null`."""
    path = tmp_path / "value.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match="no line of it is a JSON object"):
        read(path)


def test_a_null_line_is_rejected_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\nnull\n{"prompt": "c", "completion": "d"}\n')
    raw = read(path)
    assert raw.table.num_rows == 2 and "line 2" in raw.rejects[0].detail


def test_every_kind_of_file_has_a_reader():
    assert set(file_readers._KINDS) == set(KINDS)
