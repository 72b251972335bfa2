"""Finished parts of a computation in a file, whatever has become of the file."""

from pathlib import Path

import pytest

from sft.core.kept_results import KeptResults, key_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Keep three parts of two kinds."""
    path = tmp_path / "finished.jsonl"
    kept = KeptResults(path)
    kept.put("answers", "one", [[0, 0, [1, 2]], [0, 1, [3]]], 1.5)
    kept.put("answers", "two", [[1, 0, [4]]], 0.25)
    kept.put("likelihoods", "one", [0.1 + 0.2, 1e-300], 2.0)
    return path


def test_what_is_kept_comes_back_with_its_seconds(path: Path) -> None:
    kept = KeptResults(path)
    assert (kept.there("answers"), kept.there("likelihoods"), kept.seconds) == (3, 2, 0.0)
    assert kept.get("likelihoods", "one") == [0.1 + 0.2, 1e-300]  # to the last bit
    assert kept.get("answers", "one") == [[0, 0, [1, 2]], [0, 1, [3]]]
    assert kept.get("answers", "three") is None
    assert kept.used == {"answers": 2, "likelihoods": 2} and kept.seconds == 3.5


def test_nothing_is_kept_without_a_file() -> None:
    kept = KeptResults()
    kept.put("answers", "one", [1], 1.0)
    assert kept.get("answers", "one") is None and kept.there("answers") == 0


def test_a_torn_last_line_does_not_count(path: Path, capsys: pytest.CaptureFixture) -> None:
    """Wherever the process was killed: in the first byte of a line, or before its end."""
    lines = path.read_bytes().splitlines(keepends=True)
    for cut in (1, 20, len(lines[2]) - 1):
        path.write_bytes(b"".join(lines[:2]) + lines[2][:cut])
        kept = KeptResults(path)
        assert (kept.there("answers"), kept.there("likelihoods")) == (3, 0)
        kept.put("likelihoods", "one", [0.1 + 0.2, 1e-300], 2.0)
        assert path.read_bytes() == b"".join(lines)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("byte", [0, 16, 17, 30, -2])
def test_a_damaged_line_is_dropped_and_told(path: Path, byte: int, capsys: pytest.CaptureFixture) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = bytearray(lines[0])
    damaged[byte] ^= 1
    path.write_bytes(bytes(damaged) + b"".join(lines[1:]))
    kept = KeptResults(path)
    assert kept.get("answers", "one") is None and kept.get("answers", "two") == [[1, 0, [4]]]
    assert "1 of 3 kept results are damaged; they are computed anew" in capsys.readouterr().err
    assert KeptResults(path).there("answers") == 1 and capsys.readouterr().err == ""  # said once


def test_keys() -> None:
    assert key_of([1, 2], "a") == key_of((1, 2), "a") != key_of([1], 2, "a")
