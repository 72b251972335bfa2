"""Scores by example as CSV, without texts: small enough for Git, so that any two commits can be compared.

A row is an answer, or, where `run` is empty, what is of an example by likelihoods: more examples may have
that than have answers. `base_model` is how the base model's revision begins. Scores are rounded; whoever
reports them reads them from here, so that all get the same numbers.
"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from sft.core.errors import UserError
from sft.statistics.scores import Scores, ScoresOf
from sft.tasks.metric_names import BITS_PER_BYTE, COMMON, METRICS

DIGITS = 6
REVISION = 12  # characters of a base model's
_FIRST = ("base_model", "task", "example", "run")
_AFTER = ("finished", "tokens", BITS_PER_BYTE)


def short(revision: str | None) -> str:
    """Return what stands for a base model's revision in the file, "" where it has none."""
    return (revision or "")[:REVISION]


def as_csv(records: Sequence[dict[str, Any]], revision: str | None) -> str:
    """Write the records of `evaluate.score`, of all tasks, in their order; `revision` is the base model's."""
    own = [name for name in METRICS if name not in COMMON and any(name in record for record in records)]
    scores = [*(name for name in COMMON if METRICS[name].decoded), *own]
    file = io.StringIO()
    writer = csv.DictWriter(file, [*_FIRST, *scores, *_AFTER], restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        row = {name: round(record[name], DIGITS) for name in (*scores, BITS_PER_BYTE) if name in record}
        row |= {"base_model": short(revision), "task": record["task"], "example": record["id"]}
        if record["run"] is not None:
            row |= {"run": record["run"], "finished": int(record["finished"]), "tokens": record["tokens"]}
        writer.writerow(row)
    return file.getvalue()


def base_model(text: str, name: str) -> str:
    """Return the base model's revision in a file called `name`; raise UserError for a damaged file."""
    found = {row["base_model"] for row in _rows(text, name)}
    if len(found) != 1:
        raise _damaged(name, f"its rows are of {len(found)} base models")
    return found.pop()


def parse(text: str, name: str) -> Scores:
    """Return the scores by task and metric; `name` is the file's, for errors.

    Raises UserError for a damaged file: other columns, no number, an example's run missing or there twice.
    """
    cells: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    rows = _rows(text, name)
    for number, row in enumerate(rows, 2):
        where = f"line {number}"
        answer = row["run"] != ""
        run = _run(row["run"], name, where) if answer else 0
        metrics = [
            key
            for key in row
            if key == BITS_PER_BYTE or key not in (*_FIRST, *_AFTER)
            if answer == (key not in METRICS or METRICS[key].decoded)
        ]
        for metric in metrics:
            if row[metric] == "" and metric not in COMMON:
                continue  # another task's own
            of_example = cells[row["task"], metric][row["example"]]
            if run in of_example:
                raise _damaged(name, f"{where}: the example {row['example']} is there twice")
            of_example[run] = _number(row[metric], name, f"{where}: {metric}")
    return {
        (task, metric): _scores(by_example, name, f"{task}, {metric}")
        for (task, metric), by_example in cells.items()
    }


def _rows(text: str, name: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise _damaged(name, str(error)) from error
    lacking = [column for column in (*_FIRST, *_AFTER) if column not in (reader.fieldnames or [])]
    if lacking:
        raise _damaged(name, f"it has no column {lacking[0]}")
    if not rows:
        raise _damaged(name, "it has no rows")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise _damaged(name, f"line {number} has not as many cells as the first line")
    return rows


def _scores(by_example: dict[str, dict[int, float]], name: str, what: str) -> ScoresOf:
    """Lay the scores out by run and example; raise UserError where an example has not all runs."""
    runs = 1 + max(max(of_run) for of_run in by_example.values())
    for example, of_run in by_example.items():
        if len(of_run) < runs:
            raise _damaged(name, f"{what}: the example {example} has {len(of_run)} of {runs} runs")
    values = [[of_run[run] for of_run in by_example.values()] for run in range(runs)]
    return ScoresOf(list(by_example), np.array(values))


def _run(text: str, name: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _damaged(name, f"{where}: {text!r} is no run")
    return int(text)


def _number(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _damaged(name, f"{where}: {text!r} is no number")
    return number


def _damaged(name: str, what: str) -> UserError:
    return UserError(
        f"{name}: damaged, or no file of scores: {what}. Get it from Git again, or run the stage that "
        "writes it."
    )
