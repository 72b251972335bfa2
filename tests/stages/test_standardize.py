"""The standardize stage in this process, on files alone."""

import json
from pathlib import Path

import pytest

from sft.core.files import read_parquet
from sft.core.params import load
from stages import paths, standardize
from tests.imports import ROOT


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: list[str], extra: list[str] | None = None
) -> None:
    """Run it on files of 20 rows each, with a task whose source is not trained on."""
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": base, "extra": extra or []}
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


def test_what_is_left_out_is_told_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    ask, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    rows: list[dict] = [{"messages": [ask, {**answer, "content": f"a{n}"}], "tags": []} for n in range(400)]
    rows[7] |= {"tags": ["x"]}
    rows[8]["messages"] = [ask, answer, ask]
    rows[9]["messages"] = [ask, {**answer, "weight": 0}]
    Path(tmp_path, "data/raw").mkdir(parents=True)
    Path(tmp_path, "data/raw/chats.json").write_text(json.dumps(rows))
    run(tmp_path, monkeypatch, ["data/raw/other.jsonl"], ["data/raw/chats.json"])
    none = "no assistant message is trained (weight 0, or train false)"
    assert (
        f"data/raw/chats.json (OpenAI messages): rejected: 1 {none}; dropped: tags, in 1 of its rows; "
        "ending with a user's message, which no answer follows: 1\n"
    ) in capsys.readouterr().out
    sources = json.loads(Path(paths.PROVENANCE_STANDARDIZE).read_text())["sources"]
    found = sources["data/raw/chats.json"]
    assert found["layouts"] == ["OpenAI messages"] and found["used"] == ["messages"]
    assert (found["dropped"], found["ends_on_user"], found["reasons"]) == ({"tags": 1}, 1, {none: 1})
    assert sources["data/raw/other.jsonl"]["layouts"] == ["pairs"]


def test_without_a_task_that_is_trained_on_the_validation_rows_are_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(tmp_path, monkeypatch, ["data/raw/other.jsonl"])
    rows = len(read_parquet(paths.VALIDATION))
    assert rows and f"validation  {rows:>9,} rows\n" in capsys.readouterr().out
