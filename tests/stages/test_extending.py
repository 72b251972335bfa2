"""A metric and a task added to a copy of the tree, as docs/extending.md says: what changes, and what runs."""

import csv
import json
from pathlib import Path

import pytest

from sft.tasks.metric_names import COMMON
from tests.pipeline_repo import Repo, ran

# A metric that only tasks that name it have: its name, its function, and the function's row.
NAME = '    Metric("brevity", "brevity", common=False, format=".0%"),\n'
FUNCTION = '''def brevity(references: list[str], predictions: list[str]) -> list[float]:
    """Return 1 for a prediction that is no longer than its reference, else 0."""
    return [float(len(p) <= len(r)) for r, p in zip(references, predictions, strict=True)]


'''
ROW = '    "brevity": brevity,\n'
# One that every task has.
COMMON_NAME = '    Metric("length", "characters", format=".1f"),\n'
COMMON_ROW = '    "length": lambda references, predictions: [float(len(text)) for text in predictions],\n'
TASK = {
    "source": "data/raw/riddles.jsonl",
    "holdout": 0.3,
    "max_new_tokens": 12,
    "metrics": ["brevity"],
}


def insert(path: Path, before: str, text: str) -> None:
    """Put `text` before the first line that is `before`."""
    content = path.read_text(encoding="utf-8")
    assert before in content
    path.write_text(content.replace(before, text + before, 1), encoding="utf-8")


@pytest.fixture
def extended(repo: Repo) -> Repo:
    """Copy the repository that has run, and add the metrics and the task."""
    names, functions = repo.path / "sft/tasks/metric_names.py", repo.path / "sft/evaluation/metrics.py"
    insert(names, ")\nMETRICS = ", NAME + COMMON_NAME)
    insert(functions, "OF_TEXTS: ", FUNCTION)
    insert(functions, "}\nOF_MODEL: ", ROW + COMMON_ROW)
    riddles = [{"prompt": f"What has {n} legs?", "completion": f"A table for {n}."} for n in range(30)]
    lines = "".join(json.dumps(riddle) + "\n" for riddle in riddles)
    (repo.path / TASK["source"]).write_text(lines, encoding="utf-8")
    params = repo.path / "params.yaml"
    entry = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in TASK.items())
    insert(params, "\ntrain:\n", f"  riddle:\n{entry}")
    return repo


def test_a_metric_and_a_task(extended: Repo) -> None:
    before = extended.lock()
    # The mix looks anew whether it shares words with an example; it is the same, and nothing is trained.
    assert set(ran(extended.dvc("repro"))) == {"standardize", "mix", "baseline", "evaluate", "plot"}
    after = extended.lock()
    assert (after["mix"]["data/mix.parquet"], after["train"]) == (
        before["mix"]["data/mix.parquet"],
        before["train"],
    )

    assert extended.json("metrics/standardize.json")["evaluation"]["riddle"] > 2
    for name in ("baseline", "evaluate"):
        metrics = extended.json(f"metrics/{name}.json")
        assert set(metrics["riddle"]) >= {*COMMON, "length", "brevity", "finished"}
        assert "brevity" not in metrics["recipe"] and "format" in metrics["recipe"]
        assert set(metrics["average"]) == {*COMMON, "length"}
        assert metrics["recipe"]["length"]["mean"] > 1
    assert set(metrics["difference"]["riddle"]) == {*COMMON, "length", "brevity"}
    answers = (extended.path / "data/answers/evaluate.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in answers if line]
    riddles = [row for row in rows if row["task"] == "riddle"]
    assert riddles and all(row["prompt"][0]["content"].startswith("What has") for row in riddles)
    assert all(row["length"] == len(row["prediction"]) and row["brevity"] in (0, 1) for row in riddles)

    with (extended.path / "plots/rouge.csv").open(newline="") as file:
        assert "riddle" in {row["task"] for row in csv.DictReader(file)}
    with (extended.path / "plots/rouge_l.csv").open(newline="") as file:
        assert {"riddle, base", "riddle, tuned"} <= {row["task"] for row in csv.DictReader(file)}
