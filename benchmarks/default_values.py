"""How the default's weights, learning rate and budget were chosen: candidates scored on validation rows.

    python -m benchmarks.default_values FOLDER [--jobs 6] [--only NAME ...]        after dvc repro mix

Every candidate is trained and evaluated by the stages in a folder of its own, with params.yaml but for what
CANDIDATES changes. The rows held out for validation stand where the evaluation examples are, so the choice
has not seen the examples that the metrics are of. Prints a table in Markdown; finished candidates are kept.
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
from sft.data.holdout import evaluation_pool
from sft.study.plan import applied
from sft.tasks.task import Task, TaskParams, tasks_of
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
CANDIDATES: dict[str, dict[str, Any]] = {
    f"{name} {rate} {batch}x {thousands}k seed{seed}": {
        "data.weights": dict(zip(KINDS, WEIGHTS[name], strict=True)),
        "train.learning_rate": rate,
        "train.batch_size": batch,
        "train.budget": f"{thousands}k tokens",
        "train.seed": seed,
        # As many as every task has.
        "evaluate.examples": 23,
        "evaluate.likelihood_examples": 23,
    }
    for name, rate, batch, thousands, seed in dict.fromkeys([*GRID, *SEEDS])
}


def of_task(held_out: pa.Table, task: Task) -> pa.Table:
    """Make examples of the validation rows that have a task's form."""
    rows = held_out.filter(pc.equal(held_out["task"], task.name))
    rows = rows.append_column("question", pa.nulls(len(rows), pa.string()))
    return evaluation_pool({task.source: rows}, [task.model_copy(update={"holdout": 1.0})], seed=0)


def prepared(folder: Path, changes: dict[str, Any]) -> Path:
    """Make a candidate's folder, with its params, the mix and the validation rows in both places."""
    values = applied(load(PARAMS), {name: value for name, value in changes.items() if name != "data.weights"})
    values["data"]["weights"] = changes.get("data.weights", values["data"]["weights"])
    for name in ("data/holdout", "metrics", "models", "plots", "provenance", "scores"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in (paths.MIX, paths.VALIDATION):
        if not (folder / path).exists():
            (folder / path).symlink_to(Path(path).resolve())
    held_out, tasks = read_parquet(paths.VALIDATION), tasks_of(mapping(values, "tasks", TaskParams))
    write_parquet(str(folder / paths.EVALUATION), pa.concat_tables([of_task(held_out, t) for t in tasks]))
    (folder / PARAMS).write_text(json.dumps(values, indent=2) + "\n")  # JSON is YAML
    return folder


def run(folder: Path, *stages: tuple[str, ...]) -> None:
    """Run stages in a folder, with what they print in its log.txt."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with (folder / "log.txt").open("w") as log:
        for stage in stages:
            command = [sys.executable, "-m", *stage]
            subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=True)


def candidate(folder: Path, base: Path, changes: dict[str, Any]) -> None:
    """Train and evaluate a candidate, if that is not done."""
    if not (folder / paths.METRICS_EVALUATE).exists():
        prepared(folder, changes)
        (folder / paths.SCORES_BASELINE).write_text((base / paths.SCORES_BASELINE).read_text())
        run(folder, ("stages.train",), ("stages.evaluate", "adapter"))


def row(name: str, scores: dict[str, Any]) -> str:
    """Return a row of the table: bits per byte and ROUGE-1 of every task, and the recipes' format."""
    tasks = [task for task in scores if task != "average"]
    cells = [f"{scores[task][metric]:.3f}" for metric in ("bits_per_byte", "rouge1") for task in tasks]
    return f"| {name} | {' | '.join(cells)} | {scores['recipe']['format']:.0%} |"


def main() -> None:
    """Evaluate the base model once, then every candidate; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="a regular expression that the candidates' names match")
    arguments = parser.parse_args()
    chosen = {n: c for n, c in CANDIDATES.items() if re.search(arguments.only, n)}
    base = arguments.folder / "base"
    if not (base / paths.METRICS_BASELINE).exists():
        run(prepared(base, next(iter(chosen.values()))), ("stages.evaluate", "base"))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = {
            n: pool.submit(candidate, arguments.folder / n.replace(" ", "_"), base, c)
            for n, c in chosen.items()
        }
    for name, job in done.items():
        if job.exception():
            print(f"{name}: {job.exception()}", file=sys.stderr)
    print(f"| run | {'bits per byte: '} tasks | ROUGE-1: tasks | format |")
    print(row("base model", read_json(str(base / paths.METRICS_BASELINE))))
    for name in chosen:
        metrics = arguments.folder / name.replace(" ", "_") / paths.METRICS_EVALUATE
        if metrics.exists():
            print(row(name, read_json(str(metrics))))


if __name__ == "__main__":
    main()
