"""How the default's weights, learning rate and budget were chosen: candidates scored on validation rows.

    python -m benchmarks.default_values FOLDER [--jobs 6] [--only PATTERN]        after dvc repro mix

Every candidate is trained and evaluated by the stages in a folder of its own, with params.yaml but for what
CANDIDATES changes. The rows held out for validation stand where the evaluation examples are, so the choice
has not seen the examples that the metrics are of. --only takes the candidates in whose names a regular
expression is found. Prints a table in Markdown. A candidate that is finished, with these very params, is
kept; where one fails, its folder's log.txt says why, and the exit status is 1.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.files import read_json, read_parquet, write_parquet
from sft.core.params import load, mapping
from sft.data.evaluation_pool import evaluation_pool
from sft.statistics.significance import TESTED_ROUGE
from sft.study.plan import applied
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS
from sft.tasks.task import AVERAGE, Task, TaskParams, tasks_of
from stages import paths
from stages.cli import PARAMS

ROOT = Path(__file__).resolve().parent.parent

KINDS = [
    *("recipes", "recipes-by-title", "ingredient-lists", "dish-names"),
    *("dialogues", "questions", "definitions", "words", "definitions-fr"),
]
WEIGHTS = {
    "even": (11, 4, 0, 0, 8, 24, 26, 0, 0),
    "some": (2, 1, 0, 0, 2, 4, 6, 1, 0),
    "more": (4, 1, 0, 0, 1, 2, 4, 0, 0),
    "most": (6, 2, 0, 0, 1, 2, 3, 0, 0),
    "all-kinds": (8, 4, 1, 1, 2, 4, 8, 1, 0),
}
# Weights, learning rate, rows of a step, thousands of tokens, seed: a grid first, then seeds of the best.
GRID = list(product(WEIGHTS, (5e-4, 1e-3, 2e-3), (4, 8), (100,), (42,)))
SEEDS = [
    *product(("some",), (1e-3, 2e-3, 4e-3), (4,), (100,), (42, 43, 44)),
    *product(("some",), (2e-3,), (4,), (60, 140), (42, 43, 44)),
]
# As many as every task has.
EXAMPLES = {"evaluate.examples": 23, "evaluate.likelihood_examples": 23}
CANDIDATES: dict[str, dict[str, Any]] = {
    f"{name} {rate} {batch}x {thousands}k seed{seed}": {
        "data.weights": dict(zip(KINDS, WEIGHTS[name], strict=True)),
        "train.learning_rate": rate,
        "train.batch_size": batch,
        "train.budget": f"{thousands}k tokens",
        "train.seed": seed,
        **EXAMPLES,
    }
    for name, rate, batch, thousands, seed in dict.fromkeys([*GRID, *SEEDS])
}


def of_task(held_out: pa.Table, task: Task) -> pa.Table:
    """Make examples of the validation rows that have a task's form."""
    rows = held_out.filter(pc.equal(held_out["task"], task.name))
    rows = rows.append_column("question", pa.nulls(len(rows), pa.string()))
    return evaluation_pool({task.source: rows}, [task.model_copy(update={"holdout": 1.0})], seed=0)


def finished(folder: Path, metrics: str, values: dict[str, Any]) -> bool:
    """Tell whether a run of these params has written its metrics, which it does at its end."""
    return (folder / metrics).exists() and load(folder / PARAMS) == values


def prepare(folder: Path, values: dict[str, Any]) -> None:
    """Make a run's folder, with its params, the mix and the validation rows in both places."""
    for name in ("data/holdout", "metrics", "models", "plots", "provenance", "scores"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in (paths.MIX, paths.VALIDATION):
        if not (folder / path).exists():
            (folder / path).symlink_to(Path(path).resolve())
    held_out, tasks = read_parquet(paths.VALIDATION), tasks_of(mapping(values, "tasks", TaskParams))
    write_parquet(str(folder / paths.EVALUATION), pa.concat_tables([of_task(held_out, t) for t in tasks]))
    for metrics in (paths.METRICS_BASELINE, paths.METRICS_EVALUATE):  # of other params
        (folder / metrics).unlink(missing_ok=True)
    (folder / PARAMS).write_text(json.dumps(values, indent=2) + "\n")  # JSON is YAML


def run(folder: Path, *stages: tuple[str, ...]) -> None:
    """Run stages in a folder, with what they print in its log.txt."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with (folder / "log.txt").open("w") as log:
        for stage in stages:
            command = [sys.executable, "-m", *stage]
            subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=True)


def candidate(folder: Path, base: Path, values: dict[str, Any]) -> None:
    """Train and evaluate a candidate, if that is not done."""
    if not finished(folder, paths.METRICS_EVALUATE, values):
        prepare(folder, values)
        (folder / paths.SCORES_BASELINE).write_text((base / paths.SCORES_BASELINE).read_text())
        run(folder, ("stages.train",), ("stages.evaluate", "adapter"))


def table(scores: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table of runs: bits per byte and ROUGE-1 of every task, and the recipes' format."""
    tasks = [task for task in next(iter(scores.values())) if task != AVERAGE]
    columns = [(task, metric) for metric in (BITS_PER_BYTE, TESTED_ROUGE) for task in tasks]
    columns.append(("recipe", "format"))
    head = ["run", *(f"{METRICS[metric].label}, {task}" for task, metric in columns)]
    rows = [
        [name, *(f"{of[task][metric]:{METRICS[metric].format}}" for task, metric in columns)]
        for name, of in scores.items()
    ]
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def main(given: list[str] | None = None) -> int:
    """Evaluate the base model once, then every candidate; print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", metavar="PATTERN", help="found in the candidates' names")
    arguments = parser.parse_args(given)
    chosen = {name: changes for name, changes in CANDIDATES.items() if re.search(arguments.only, name)}
    if not chosen:
        first = next(iter(CANDIDATES))
        parser.error(f"--only {arguments.only!r} is in no candidate's name, such as {first!r}")
    values, base = load(PARAMS), arguments.folder / "base"
    of_base = applied(values, EXAMPLES)
    if not finished(base, paths.METRICS_BASELINE, of_base):
        prepare(base, of_base)
        run(base, ("stages.evaluate", "base"))
    folders = {name: arguments.folder / name.replace(" ", "_") for name in chosen}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = {
            name: pool.submit(candidate, folders[name], base, applied(values, changes))
            for name, changes in chosen.items()
        }
    faults = {name: job.exception() for name, job in jobs.items() if job.exception()}
    for name, fault in faults.items():
        print(f"{name}: {fault}", file=sys.stderr)
    metrics = {"base model": base / paths.METRICS_BASELINE}
    metrics |= {name: folders[name] / paths.METRICS_EVALUATE for name in chosen if name not in faults}
    print("\n".join(table({name: read_json(str(path)) for name, path in metrics.items()})))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
