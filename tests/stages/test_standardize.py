"""The standardize stage in this process, on files alone."""

import json
from pathlib import Path

import pytest

from sft.core.files import read_parquet
from sft.core.params import load
from stages import paths, standardize
from tests.imports import ROOT


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: list[str]) -> None:
    """Run it on files of 20 rows each, with a task whose source is not trained on."""
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": base, "extra": []}
    values["data"]["holdout"]["validation"] = 0.25
    values["tasks"] = {"mine": values["tasks"]["question"] | {"source": "data/raw/asked.jsonl"}}
    monkeypatch.chdir(tmp_path)
    for name in [*base, "data/raw/asked.jsonl"]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        rows = [{"prompt": f"{name} {n}?", "completion": f"Answer {n} of {name}."} for n in range(20)]
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    standardize.main(values)


def test_files_of_one_name_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    first, second = "data/raw/a/train.jsonl", "data/raw/b/train.jsonl"
    run(tmp_path, monkeypatch, [first, second, "data/raw/other.jsonl"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("kind "))
    assert line == (
        f"kind        train: rows of {first} and {second}; they share a weight in data.weights. "
        "Rename a file to weigh them apart."
    )


def test_without_a_task_that_is_trained_on_the_validation_rows_are_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(tmp_path, monkeypatch, ["data/raw/other.jsonl"])
    rows = len(read_parquet(paths.VALIDATION))
    assert rows and f"validation  {rows:>9,} rows\n" in capsys.readouterr().out
