"""Writing: nothing half-written is ever left, and what was there before stays until the new is whole."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from sft.core.errors import MissingFile, UserError
from sft.core.files import (
    json_lines,
    read_json,
    read_parquet,
    replacing,
    sha256_of,
    write_csv,
    write_json,
    write_parquet,
    write_text,
)
from tests.imports import ROOT

TABLE = pa.table({"id": [str(n) for n in range(120_000)], "n": list(range(120_000))})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"z": 1, "a": "é"})
    assert (tmp_path / "a" / "b.json").read_text("utf-8") == '{\n  "z": 1,\n  "a": "é"\n}\n'
    write_csv(tmp_path / "c.csv", [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}])
    assert (tmp_path / "c.csv").read_bytes() == b"step,loss\n1,0.5\n2,0.25\n"
    write_text(tmp_path / "d.txt", "é\n")
    assert (tmp_path / "d.txt").read_bytes() == b"\xc3\xa9\n"
    assert names(tmp_path) == ["a", "c.csv", "d.txt"]


def test_equal_rows_give_equal_parquet(tmp_path):
    write_parquet(tmp_path / "one.parquet", TABLE)
    # The same rows in other chunks, as concatenation of several sources leaves them.
    pieces = pa.concat_tables([TABLE.slice(0, 10), TABLE.slice(10, 70_000), TABLE.slice(70_010)])
    write_parquet(tmp_path / "two.parquet", pieces.combine_chunks())
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert read_parquet(tmp_path / "one.parquet") == TABLE
    assert read_parquet(tmp_path / "one.parquet", ["n"]).column_names == ["n"]


def test_a_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"old": 1})
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1} and names(tmp_path) == ["metrics.json"]


def test_a_full_disk_keeps_the_old_file(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    path = tmp_path / "answers.jsonl"
    write_text(path, "old")
    with pytest.raises(UserError, match="No space left on device") as caught, replacing(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("new")
    assert str(caught.value).startswith(str(path))
    assert path.read_text() == "old" and names(tmp_path) == ["answers.jsonl"]


@pytest.mark.parametrize("old", [True, False])
def test_a_parquet_file_that_does_not_fit(tmp_path, old):
    """A real limit on file sizes, in another process because it cannot be lifted again."""
    path = tmp_path / "mix.parquet"
    if old:
        write_parquet(path, TABLE.slice(0, 1))
    program = """if True:
        import resource, sys
        import pyarrow as pa
        from sft.core.errors import MissingFile, UserError
        from sft.core.files import write_parquet
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            write_parquet(sys.argv[1], pa.table({"n": list(range(120_000))}))
        except UserError as error:
            print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith(f"{path}: cannot be written: ")
    assert names(tmp_path) == (["mix.parquet"] if old else [])
    if old:
        assert len(read_parquet(path)) == 1


def test_folders_replace_folders_whole(tmp_path):
    folder = tmp_path / "adapter"
    for name in ("old", "new"):
        with replacing(folder) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert names(tmp_path) == ["adapter"] and names(folder) == ["new"]
    with pytest.raises(ZeroDivisionError), replacing(folder) as temporary:
        temporary.mkdir()
        (temporary / "half").write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["adapter"] and names(folder) == ["new"]


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "file" / "x.txt", "text")


def test_reading_what_is_no_parquet(tmp_path):
    with pytest.raises(MissingFile, match=r"mix\.parquet: no such file") as caught:
        read_parquet(tmp_path / "mix.parquet")
    assert caught.value.path == tmp_path / "mix.parquet"
    write_parquet(tmp_path / "mix.parquet", TABLE)
    whole = (tmp_path / "mix.parquet").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no parquet at all"):
        (tmp_path / "mix.parquet").write_bytes(damaged)
        with pytest.raises(UserError, match="not a readable Parquet file"):
            read_parquet(tmp_path / "mix.parquet")
    write_parquet(tmp_path / "mix.parquet", TABLE)
    with pytest.raises(UserError, match="messages"):
        read_parquet(tmp_path / "mix.parquet", ["messages"])


def test_reading_what_is_no_json(tmp_path):
    with pytest.raises(MissingFile, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")
    write_text(tmp_path / "a.json", '{"rows": 1')
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_the_digest_of_a_file(tmp_path):
    write_text(tmp_path / "a.txt", "abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "a.txt") == digest
    with pytest.raises(MissingFile):
        sha256_of(tmp_path / "b.txt")
    with pytest.raises(UserError, match="cannot be read"):
        sha256_of(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_not_is_named(tmp_path, value):
    with pytest.raises(UserError, match=r"m\.json: recipe\.scores\.1\.rouge1 would be (nan|-?inf), "):
        write_json(tmp_path / "m.json", {"recipe": {"scores": [{}, {"rouge1": value}], "n": 1}})
    with pytest.raises(ValueError, match="JSON compliant"):
        json_lines([{"rouge1": value}])
    assert names(tmp_path) == []
