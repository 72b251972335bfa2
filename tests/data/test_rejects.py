"""The rejects file, and when rejects stop the pipeline."""

import json

import pytest

from sft.core.errors import UserError
from sft.data.raw_rows import FileReason
from sft.data.rejects import by_reason, check, write
from sft.data.source_rows import Reject
from sft.data.standardize import RowReason

REJECTS = [
    Reject("data/raw/my.jsonl", 3, RowReason.UNKNOWN_ROLE, '{"from": "oracle"}', "'oracle'"),
    Reject("data/raw/my.jsonl", 4, FileReason.INVALID_JSON, "{née", "line 5: Expecting value at column 1"),
    Reject("data/raw/my.jsonl", 9, RowReason.UNKNOWN_ROLE, "x" * 1_000, "'bard: the poet'"),
]


def test_each_reject_is_a_line(tmp_path):
    write(tmp_path / "rejects.jsonl", REJECTS)
    lines = (tmp_path / "rejects.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines[:2]] == [
        {
            "source": "data/raw/my.jsonl",
            "row": 3,
            "reason": "unknown role",
            "detail": "'oracle'",
            "text": '{"from": "oracle"}',
        },
        {
            "source": "data/raw/my.jsonl",
            "row": 4,
            "reason": "invalid JSON",
            "detail": "line 5: Expecting value at column 1",
            "text": "{née",
        },
    ]
    assert len(lines) == 3 and "née" in lines[1] and len(json.loads(lines[2])["text"]) == 200
    write(tmp_path / "rejects.jsonl", [])
    assert (tmp_path / "rejects.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("rows", "limit", "fails"),
    [(97, 0.03, False), (97, 0.0299, True), (0, 1.0, False), (0, 0.99, True), (10**6, 0.0, True)],
)
def test_the_share_that_is_allowed(rows, limit, fails):
    if not fails:
        return check("a source", REJECTS, rows, limit, "rejects.jsonl")
    with pytest.raises(UserError):
        check("a source", REJECTS, rows, limit, "rejects.jsonl")


def test_no_rejects_are_never_too_many():
    check("a source", [], 0, 0.0, "rejects.jsonl")


def test_the_first_rejects_are_shown():
    with pytest.raises(UserError) as caught:
        check("data/raw/my.jsonl", REJECTS * 3, 1_000, 0.001, "data/rejects.jsonl")
    message = str(caught.value)
    assert message.startswith("data/raw/my.jsonl: 9 of 1,009 rows cannot be understood")
    assert "data.max_rejects (0.10%)" in message and "data/rejects.jsonl" in message
    assert message.count("  row ") == 5 and "row 3: unknown role: 'oracle'" in message
    assert max(map(len, message.splitlines())) < 200


def test_reasons_are_counted_without_what_varies():
    assert list(by_reason(REJECTS[1:] + REJECTS[:1]).items()) == [("unknown role", 2), ("invalid JSON", 1)]
    assert by_reason([]) == {}
