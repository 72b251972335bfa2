"""Holding out evaluation and validation items before anything else sees them.

The unit is the item (what an answer is made from), so no other form of a held-out recipe, gloss or
dialogue stays among the training rows.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError
from sft.core.params import Integer, Params, Share
from sft.core.seeded_order import order, units


class HoldoutParams(Params):
    """`data.holdout`: the seed, and the share of items held out for validation and for each task."""

    seed: Integer
    validation: Share
    recipe: Share
    definition: Share
    dialogue: Share
    question: Share

    def share(self, task: str) -> float:
        """Return the share of a task's items that is held out for evaluation."""
        return float(getattr(self, task))


EXAMPLES = pa.schema(
    [
        ("task", pa.string()),
        ("id", pa.string()),
        ("item", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("reference", pa.string()),
    ]
)


def evaluation_items(rows: pa.Table, params: HoldoutParams) -> pa.Array:
    """Return the items held out for evaluation: by seeded hash, among rows whose form is a task's."""
    held = []
    for task in pc.unique(rows["task"]).drop_null().to_pylist():
        items = pc.unique(rows.filter(pc.equal(rows["task"], task))["item"])
        held.append(items.filter(pa.array(units(f"{params.seed}:evaluation", items) < params.share(task))))
    return pc.unique(pa.concat_arrays(held)) if held else pa.array([], pa.string())


def is_validation(rows: pa.Table, params: HoldoutParams) -> pa.Array:
    """Tell for each row whether its item is held out for validation."""
    return pa.array(units(f"{params.seed}:validation", rows["item"]) < params.validation)


def evaluation_pool(rows: pa.Table, held: pa.Array, params: HoldoutParams) -> pa.Table:
    """Build the examples of EXAMPLES from the held-out rows, one a task and item, ranked by seeded hash.

    The reference is the second assistant turn (the first where there is one only) and the prompt all
    that comes before it, so a long dialogue does not cost a long prompt. A prefix of a task's examples
    is what `evaluate.examples` takes. Raises UserError where a task has no example left.
    """
    rows = rows.filter(pc.and_(pc.is_valid(rows["task"]), pc.is_in(rows["item"], value_set=held)))
    rows = rows.select(["messages", "id", "item", "task"]).take(order(params.seed, rows["id"]))
    examples, seen = [], set()
    for row in rows.to_pylist():
        if (row["task"], row["item"]) in seen:
            continue
        seen.add((row["task"], row["item"]))
        turns = [n for n, message in enumerate(row["messages"]) if message["role"] == "assistant"][:2]
        examples.append(
            {
                "task": row["task"],
                "id": row["id"],
                "item": row["item"],
                "prompt": row["messages"][: turns[-1]],
                "reference": row["messages"][turns[-1]]["content"],
            }
        )
    pool = pa.Table.from_pylist(examples, EXAMPLES)
    missing = [task for task in TASKS if task not in set(pool["task"].to_pylist())]
    if missing:
        raise ParamError(
            f"data.holdout.{missing[0]}: no item of the task {missing[0]!r} is held out. "
            "Raise its share, or list a source that brings the task in data.evaluation."
        )
    return pool.take(np.argsort([TASKS.index(task) for task in pool["task"].to_pylist()], kind="stable"))


TASKS = ["recipe", "definition", "dialogue", "question"]
