"""Sources by address: files and wheels."""

import gzip
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft.core.errors import UserError
from sft.data.sources import kind_of, load
from tests.source_files import lines, parquet, rows, written

ROOT = Path(__file__).parents[2]


def questions(table: pa.Table) -> list[str]:
    return [row[0]["content"] for row in table["messages"].to_pylist()]


def test_file_under_raw(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = lines([*rows(3, score=1), {"conversations": []}]) + b"{\n"
    written(tmp_path / "data/raw/my.jsonl.gz", gzip.compress(content))
    loaded = load("data/raw/my.jsonl.gz")
    assert questions(loaded.table) == ["q0", "q1", "q2"]
    assert loaded.table["score"].to_pylist() == [1, 1, 1]
    assert set(loaded.table["source"].to_pylist()) == {"data/raw/my.jsonl.gz"}
    assert set(loaded.table["kind"].to_pylist()) == {"my"}
    assert sorted((reject.row, reject.source) for reject in loaded.rejects) == [
        (3, "data/raw/my.jsonl.gz"),
        (4, "data/raw/my.jsonl.gz"),
    ]
    digest = hashlib.sha256((tmp_path / "data/raw/my.jsonl.gz").read_bytes()).hexdigest()
    assert loaded.resolved == f"sha256:{digest}"
    assert "3 rows, 2 rejected" in capsys.readouterr().out
    assert set(load("data/raw/my.jsonl.gz").table["source"].to_pylist()) == {"data/raw/my.jsonl.gz"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("data/raw/my.jsonl.gz", "my"),
        ("data/raw/my v1.5.PARQUET", "my_v1_5"),
        ("data/raw/chats", "chats"),
        ("mlabonne/FineTome-100k", "FineTome-100k"),
        ("some-package", "some-package"),
        ("data/raw/size.jsonl", "data-size"),
        ("data/raw/2024.parquet", "data-2024"),
        ("data/raw/True.json", "data-True"),
        ("data/raw/.jsonl", "data"),
    ],
)
def test_the_kind_of_a_source_is_the_last_part_of_its_name(name, kind):
    assert kind_of(name) == kind


def test_folder_of_files_with_other_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "data/raw/mine"
    parquet(raw / "b.parquet", rows(2, 10, score=1, note="x", rank=1))
    written(raw / "a.jsonl", lines(rows(2, 20, score=0.5, rank="first")))
    written(raw / "c/d.json", json.dumps([{"instruction": "q30", "output": "a"}]).encode())
    written(raw / "README.md", b"about")
    loaded = load("data/raw/mine")
    assert questions(loaded.table) == ["q20", "q21", "q10", "q11", "q30"]
    assert loaded.table["score"].to_pylist() == [0.5, 0.5, 1.0, 1.0, None]
    assert loaded.table["note"].to_pylist() == [None, None, "x", "x", None]
    assert "rank" not in loaded.table.column_names
    assert "column 'rank' is left out" in capsys.readouterr().out
    some = load("data/raw/mine#*.parquet")
    assert questions(some.table) == ["q10", "q11"]
    assert some.resolved != loaded.resolved
    for uri, said in (("data/raw/mine#*.csv", "a.jsonl, b.parquet"), ("data/raw/mine/a.jsonl#x", "folder")):
        with pytest.raises(UserError, match=said):
            load(uri)


def test_faulty_local_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uri, said in (("data/raw/none.jsonl", "no such file"), ("hf://a/b@main", "names a model")):
        with pytest.raises(UserError, match=said):
            load(uri)
    pq.write_table(pa.Table.from_pylist(rows(1)).slice(1), written(tmp_path / "data/raw/no.parquet", b""))
    with pytest.raises(UserError, match="holds no rows"):
        load("data/raw/no.parquet")


def test_data_in_a_wheel_without_a_reader_of_its_own(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "mine-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mine/data/b.jsonl", lines(rows(2, 5)))
        wheel.writestr("mine/data/a.json", json.dumps(rows(1)))
        wheel.writestr("mine/__init__.py", "")
    path = tmp_path / "mine-1-py3-none-any.whl"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    written(tmp_path / f"cache/pypi/{digest}/{path.name}", path.read_bytes())
    loaded = load(f"pypi://mine==1?sha256={digest}#mine/data/*")
    assert questions(loaded.table) == ["q0", "q5", "q6"]
    assert loaded.resolved == f"sha256:{digest}"
    with pytest.raises(UserError, match=r"mine/data/a\.json"):
        load(f"pypi://mine==1?sha256={digest}#other/*")


def test_sources_start_without_heavy_imports():
    code = (
        "import sys, sft.data.sources; print([m for m in ('torch', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
