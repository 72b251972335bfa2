"""How the default's weights, learning rate and budget were chosen: scores on validation rows.

    python -m benchmarks.default_values prepare FOLDER      after dvc repro mix
    cd FOLDER && python -m scripts.study_without_dvc runs --sizes 100k --condition ... --jobs 6
    python -m benchmarks.default_values table FOLDER/runs-base FOLDER/runs/*

`prepare` makes a folder with the pipeline's standardized rows and params, in which the rows held out for
validation stand where the evaluation examples were: a choice made on these has not seen the examples that the
metrics are of. `table` prints each run's scores on them as Markdown.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.files import read_json, read_parquet, write_parquet
from sft.core.params import load, mapping
from sft.data.holdout import evaluation_pool
from sft.tasks.task import Task, TaskParams, tasks_of
from stages import paths
from stages.cli import PARAMS


def prepare(folder: Path) -> None:
    """Write the folder, and print how many examples a task has there."""
    tasks = tasks_of(mapping(load(PARAMS), "tasks", TaskParams))
    held_out = read_parquet(paths.VALIDATION)
    for path in (paths.BASE, paths.EXTRA, paths.VALIDATION, PARAMS):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path)
    examples = pa.concat_tables([of_task(held_out, task) for task in tasks])
    write_parquet(str(folder / paths.EVALUATION), examples)
    for entry in pc.value_counts(examples["task"]).to_pylist():
        print(f"{entry['values']}: {entry['counts']} examples")


def of_task(held_out: pa.Table, task: Task) -> pa.Table:
    """Make examples of all validation rows that have a task's form."""
    rows = held_out.filter(pc.equal(held_out["task"], task.name))
    return evaluation_pool({task.source: rows}, [task.model_copy(update={"holdout": 1.0})], seed=0)


def table(folders: list[Path]) -> str:
    """Return the runs' scores: bits per byte of every task, and ROUGE-1 and format of recipes."""
    lines = []
    for folder in folders:
        metrics = folder / paths.METRICS_EVALUATE
        scores: dict[str, Any] = read_json(str(metrics if metrics.exists() else folder / paths.METRICS_BASELINE))
        tasks = [name for name in scores if name != "average"]
        if not lines:
            heads = ["run", *(f"{task} bits/byte" for task in tasks), *(f"{task} ROUGE-1" for task in tasks), "format"]
            lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        cells = [f"{scores[task][name]:.3f}" for name in ("bits_per_byte", "rouge1") for task in tasks]
        lines.append(f"| {folder.name} | {' | '.join(cells)} | {scores['recipe']['format']:.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("command", choices=["prepare", "table"])
    parser.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.folders[0])
    else:
        print(table(arguments.folders))


if __name__ == "__main__":
    main()
