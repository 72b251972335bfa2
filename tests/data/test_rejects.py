"""The rejects file, and when rejects stop the pipeline."""

import json

import pytest

from sft.core.errors import UserError
from sft.data.rejects import by_reason, check, write
from sft.data.source_rows import Reject

REJECTS = [
    Reject("data/raw/my.jsonl", 3, "unknown role: 'oracle'", '{"from": "oracle"}'),
    Reject("data/raw/my.jsonl", 4, "not valid JSON: Expecting value on line 1", "{née"),
    Reject("data/raw/my.jsonl", 9, "unknown role: 'bard'", "x" * 1_000),
]


def test_each_reject_is_a_line(tmp_path):
    write(tmp_path / "rejects.jsonl", REJECTS)
    lines = (tmp_path / "rejects.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines[:2]] == [
        {"source": r.source, "row": r.row, "reason": r.reason, "text": r.text} for r in REJECTS[:2]
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
    assert by_reason(REJECTS) == {"unknown role": 2, "not valid JSON": 1}
    assert list(by_reason(REJECTS)) == ["unknown role", "not valid JSON"]
    assert by_reason(
        [Reject("a", 0, "no quote on line 7", ""), Reject("a", 1, "no quote on line 9", "")]
    ) == {"no quote": 2}
    assert by_reason([]) == {}
