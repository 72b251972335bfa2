"""Holding out evaluation and validation items before anything else sees them.

The unit is the item (what an answer is made from), so no other form of a held-out recipe, gloss or
dialogue stays among the training rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError
from sft.core.params import Integer, Params, Share
from sft.core.seeded_order import order, units
from sft.tasks.task import Task


class HoldoutParams(Params):
    """`data.holdout`: the seed of all that is held out, and the share of base's items for validation."""

    seed: Integer
    validation: Share


EXAMPLES = pa.schema(
    [
        ("task", pa.string()),
        ("id", pa.string()),
        ("item", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("reference", pa.string()),
    ]
)


@dataclass
class Split:
    """Rows to train on, of base and of extra, and those held out for validation."""

    base: pa.Table
    extra: pa.Table
    validation: pa.Table


def evaluation_pool(sources: Mapping[str, pa.Table], tasks: Sequence[Task], seed: int) -> pa.Table:
    """Build the examples of EXAMPLES, one an item held out for a task: task by task, ranked by seeded hash.

    `sources` has the rows of the tasks' sources by URI. A prefix of a task's examples is what
    `evaluate.examples` takes. Raises ParamError where a source has no row of its task's form, or no item is
    held out.
    """
    return pa.concat_tables([_examples(_of_form(sources[task.source], task), task, seed) for task in tasks])


def _of_form(rows: pa.Table, task: Task) -> pa.Table:
    """Return the rows marked with the task's name; where none is marked with any, all have its form."""
    marks = pc.unique(rows["task"]).drop_null().to_pylist()
    if not marks:
        return rows
    if task.name not in marks:
        raise ParamError(
            f"tasks.{task.name}.source: {task.source} has rows of the tasks {', '.join(sorted(marks))} and "
            f"none of {task.name!r}. Name the task as one of those, or take another source."
        )
    return rows.filter(pc.equal(rows["task"], task.name))


def _examples(rows: pa.Table, task: Task, seed: int) -> pa.Table:
    """Build a task's examples from the rows of its form.

    The reference is the second assistant turn (the first where there is one only) and the prompt all that
    comes before it, so a long dialogue does not cost a long prompt. Only turns that a user's comes before
    count; a row without one is no example.
    """
    items = pc.unique(rows["item"])
    held = items.filter(pa.array(units(f"{seed}:evaluation", items) < task.holdout))
    rows = rows.select(["messages", "id", "item"]).filter(pc.is_in(rows["item"], value_set=held))
    examples: dict[str, dict] = {}
    for row in rows.take(order(seed, rows["id"])).to_pylist():
        if row["item"] in examples:
            continue
        roles = [message["role"] for message in row["messages"]]
        turns = [n for n, role in enumerate(roles) if role == "assistant" and "user" in roles[:n]][:2]
        if not turns:
            continue
        examples[row["item"]] = {
            "task": task.name,
            "id": row["id"],
            "item": row["item"],
            "prompt": row["messages"][: turns[-1]],
            "reference": row["messages"][turns[-1]]["content"],
        }
    if not examples:
        raise ParamError(
            f"tasks.{task.name}.holdout: no item of {task.source} is held out for the task. Raise the share, "
            "or take a source with more items."
        )
    return pa.Table.from_pylist(list(examples.values()), EXAMPLES)


def is_validation(rows: pa.Table, params: HoldoutParams) -> pa.Array:
    """Tell for each row whether its item is held out for validation."""
    return pa.array(units(f"{params.seed}:validation", rows["item"]) < params.validation)


def split(base: pa.Table, extra: pa.Table, evaluation: pa.Table, params: HoldoutParams) -> Split:
    """Take the items of `evaluation` out of base and extra, and validation items out of what is left.

    Raises ParamError where nothing of base is left.
    """
    held = pc.unique(evaluation["item"])
    base = base.filter(pc.invert(pc.is_in(base["item"], value_set=held)))
    mask = is_validation(base, params)
    validation, base = base.filter(mask), base.filter(pc.invert(mask))
    held = pa.concat_arrays([held, pc.unique(validation["item"])])
    extra = extra.filter(pc.invert(pc.is_in(extra["item"], value_set=held)))
    if not len(base):
        raise ParamError("data.holdout: nothing of data.base is left to train on. Lower the shares.")
    return Split(base, extra, validation)
