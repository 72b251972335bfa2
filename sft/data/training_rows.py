"""Rows that may be trained on: those of a source without evaluation items and rows that hold an example."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError
from sft.data.contamination import EXACT, Matches
from sft.data.evaluation_pool import of_form
from sft.data.holdout import gives_away, under
from sft.data.staging import SEQ
from sft.tasks.task import Task


@dataclass
class Clean:
    """A source's rows without evaluation items, and without other rows that hold an example.

    `out` are the SEQ of those that are left out.
    """

    rows: pa.Table
    out: np.ndarray
    held_out: int
    contaminated: dict[str, int]


def clean_rows(rows: pa.Table, items: pa.Array, matches: Matches) -> Clean:
    """Take the rows that give away one of these items out of a source, and then those that hold an example.

    `matches` are of all rows of the source.
    """
    held = gives_away(rows, items)
    found = matches.of(~held)
    out = held | found.exact
    return Clean(
        under(rows, ~out), rows[SEQ].filter(pa.array(out)).to_numpy(), int(held.sum()), found.counts()
    )


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


def ids_of_forms(tables: dict[str, pa.Table], tasks: list[Task]) -> dict[str, pa.Array | None]:
    """Return the ids of the rows of each task's form, None where all rows of its source have it."""
    ids = {}
    for task in tasks:
        form = of_form(tables[task.source], task)
        ids[task.name] = pc.unique(form["id"]) if len(form) < len(tables[task.source]) else None
    return ids


def forms(ids: dict[str, pa.Array | None], clean: dict[str, Clean], tasks: list[Task]) -> dict[str, pa.Table]:
    """Return the rows of each task's form that are left of its source; `ids` are those of `ids_of_forms`.

    Raises ParamError where none is, for then there is nothing to train on or to validate with.
    """
    of_task = {}
    for task in tasks:
        source, marked = clean[task.source], ids[task.name]
        of_task[task.name] = source.rows
        if marked is not None:
            of_task[task.name] = source.rows.filter(pc.is_in(source.rows["id"], value_set=marked))
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
