"""Rows that may be trained on: those of a source without evaluation items and rows that hold an example."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError
from sft.data.contamination import EXACT, Matches
from sft.data.evaluation_pool import of_form
from sft.data.holdout import given_away, gives_away, under
from sft.tasks.task import Task


@dataclass
class Clean:
    """A source's rows without evaluation items, and without other rows that hold an example.

    `out` marks those that are left out, of all of its rows.
    """

    rows: pa.Table
    out: np.ndarray
    held_out: int
    contaminated: dict[str, int]


def clean_all(
    tables: dict[str, pa.Table], evaluation: pa.Table, matches: Callable[[str], Matches]
) -> dict[str, Clean]:
    """Take evaluation items out of every source, and then the rows that hold an example all the same.

    `matches` compares all rows of a source with the examples.
    """
    items, clean = given_away(evaluation["item"], tables.values()), {}
    for uri, table in tables.items():
        held = gives_away(table, items)
        found = matches(uri).of(~held)
        out = held | found.exact
        clean[uri] = Clean(under(table, ~out), out, int(held.sum()), found.counts())
    return clean


def check_left(base: pa.Table, clean: dict[str, Clean], uris: list[str]) -> None:
    """Raise ParamError where nothing of base is left to train on."""
    if not len(base):
        held_out = sum(clean[uri].held_out for uri in uris)
        contaminated = sum(held(clean[uri]) for uri in uris)
        raise ParamError(
            f"data.base: no row of it is left to train on. {held_out:,} rows are of items held out for "
            f"evaluation, and {contaminated:,} others hold an evaluation example. Name a source that the "
            "tasks are not made from, or lower tasks.*.holdout."
        )


def forms(tables: dict[str, pa.Table], clean: dict[str, Clean], tasks: list[Task]) -> dict[str, pa.Table]:
    """Return the rows of each task's form that are left of its source.

    Raises ParamError where none is, for then there is nothing to train on or to validate with.
    """
    of_task = {}
    for task in tasks:
        source = clean[task.source]
        of_task[task.name] = source.rows
        form = of_form(tables[task.source], task)
        if len(form) < len(tables[task.source]):  # else all rows have it
            found = pc.is_in(source.rows["id"], value_set=pc.unique(form["id"]))
            of_task[task.name] = source.rows.filter(found)
        if not len(of_task[task.name]):
            raise ParamError(
                f"tasks.{task.name}.source: no row of the task is left of {task.source} to train on. "
                f"{source.held_out:,} rows of the source are held out for evaluation, and {held(source):,} "
                f"others hold an evaluation example. Lower tasks.{task.name}.holdout, or take the source out "
                "of data.base and data.extra."
            )
    return of_task


def held(source: Clean) -> int:
    """Count a source's rows that held an example."""
    return sum(source.contaminated[reason] for reason in EXACT)
