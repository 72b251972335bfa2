"""A metric and a task added to a copy of the tree, as docs/extending.md says: what changes, and what runs."""

import csv
import json
from pathlib import Path

import pytest

from sft.tasks.metric_names import COMMON, METRICS
from tests.pipeline_repo import Repo, ran

# A metric that only tasks that name it have: its name, its function, and the function's row.
NAME = '    Metric("brevity", "brevity", common=False, format=".0%"),\n'
FUNCTION = '''def brevity(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return 1 for a prediction that is no longer than its longest reference, else 0."""
    return [float(len(p) <= max(map(len, of_p))) for of_p, p in zip(references, predictions, strict=True)]


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
    insert(functions, '    "format": whole_recipe,\n', ROW + COMMON_ROW)
    riddles = [{"prompt": f"What has {n} legs?", "completion": f"A table for {n}."} for n in range(30)]
    lines = "".join(json.dumps(riddle) + "\n" for riddle in riddles)
    (repo.path / TASK["source"]).write_text(lines, encoding="utf-8")
    params = repo.path / "params.yaml"
    entry = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in TASK.items())
    insert(params, "\ntrain:\n", f"  riddle:\n{entry}")
    return repo


@pytest.mark.long
def test_a_metric_and_a_task(extended: Repo) -> None:
    before = extended.lock()
    # The mix looks anew whether it shares words with an example; it is the same, and nothing is trained.
    assert set(ran(extended.dvc_apart("repro"))) == {
        "standardize",
        "mix",
        "baseline",
        "evaluate",
        "plot",
        "card",
    }
    after = extended.lock()
    assert (after["mix"]["data/mix"], after["train"]) == (before["mix"]["data/mix"], before["train"])

    assert extended.json("metrics/standardize.json")["evaluation"]["riddle"] > 2
    for name in ("baseline", "evaluate"):
        metrics = extended.json(f"metrics/{name}.json")
        common = {metric for metric in COMMON if METRICS[metric].headline} | {"length"}
        assert set(metrics["riddle"]) == {*common, "brevity"}
        assert "brevity" not in metrics["recipe"] and "format" in metrics["recipe"]
        assert common == {metric for metric in metrics["average"] if not metric.endswith("_std")}
        assert metrics["recipe"]["length"] > 1
    answers = (extended.path / "data/answers/evaluate.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in answers if line]
    riddles = [row for row in rows if row["task"] == "riddle" and row["run"] is not None]
    assert riddles and all(row["prompt"][0]["content"].startswith("What has") for row in riddles)
    assert all(row["length"] == len(row["prediction"]) and row["brevity"] in (0, 1) for row in riddles)

    scored = table(extended, "scores/evaluate.csv")
    assert [row["brevity"] for row in scored if row["task"] == "riddle" and row["run"]] == [
        f"{row['brevity']}" for row in riddles
    ]
    assert ("riddle", "brevity") in {
        (row["task"], row["metric"]) for row in table(extended, "plots/gain.csv")
    }


def table(repo: Repo, path: str) -> list[dict[str, str]]:
    with (repo.path / path).open(newline="") as file:
        return list(csv.DictReader(file))
