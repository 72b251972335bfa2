"""Holding out evaluation and validation items before anything else sees them.

The unit is the item (what an answer is made from), so no other form of a held-out recipe, word or dialogue
stays among the training rows. Nor does a row that gives away the same as a held-out item (`related`): of a
word these are the other words that have one of its glosses. That is one step: what else such a row gives
away is not held out for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError
from sft.core.params import Count, Integer, Params, Share
from sft.core.row_schema import HOLDOUT_ONLY, SCHEMA, take_rows
from sft.core.seeded_order import order, units
from sft.tasks.task import Task


class HoldoutParams(Params):
    """`data.holdout`: the seed of all that is held out, the share of base's items for validation, and the
    rows of every task that is trained on that there are at least.
    """

    seed: Integer
    validation: Share
    validation_per_task: Count


EXAMPLES = pa.schema(
    [
        ("task", pa.string()),
        ("id", pa.string()),
        ("item", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        # The example's own answer first, then the others that its question has.
        ("references", pa.list_(pa.string())),
    ]
)
VALIDATION = [name for name in SCHEMA.names if name not in HOLDOUT_ONLY]


@dataclass
class Split:
    """Rows to train on, of base and of extra, and those held out for validation.

    `for_validation_per_task` counts the rows that would be trained on if only the share were held out.
    """

    base: pa.Table
    extra: pa.Table
    validation: pa.Table
    for_validation_per_task: int


def evaluation_pool(sources: Mapping[str, pa.Table], tasks: Sequence[Task], seed: int) -> pa.Table:
    """Build the examples of EXAMPLES, one an item held out for a task: task by task, ranked by seeded hash.

    `sources` has rows by URI: of the tasks' sources, and of those that may have further answers to the same
    questions. A prefix of a task's examples is what `evaluate.examples` takes. Raises ParamError where a
    source has no row of its task's form, or no item is held out.
    """
    examples = [row for task in tasks for row in _examples(of_form(sources[task.source], task), task, seed)]
    answers = _answers(sources.values(), {row["question"] for row in examples} - {None})
    for row in examples:
        others = answers.get(row.pop("question"), set()) - {row["reference"]}
        row["references"] = [row.pop("reference"), *sorted(others)]
    return pa.Table.from_pylist(examples, EXAMPLES)


def of_form(rows: pa.Table, task: Task) -> pa.Table:
    """Return the rows marked with the task's name; where none is marked with any, all have its form.

    Raises ParamError where the rows are marked with other tasks' names only.
    """
    marks = pc.unique(rows["task"]).drop_null().to_pylist()
    if not marks:
        return rows
    if task.name not in marks:
        raise ParamError(
            f"tasks.{task.name}.source: {task.source} has rows of the tasks {', '.join(sorted(marks))} and "
            f"none of {task.name!r}. Name the task as one of those, or take another source."
        )
    return rows.filter(pc.equal(rows["task"], task.name))


def _examples(rows: pa.Table, task: Task, seed: int) -> list[dict]:
    """Build a task's examples from the rows of its form, each with its question.

    The reference is the second assistant turn (the first where there is one only) and the prompt all that
    comes before it, so a long dialogue does not cost a long prompt. Only turns that a user's comes before
    count; a row without one is no example, nor one whose reference is blank.
    """
    items = pc.unique(rows["item"])
    held = items.filter(pa.array(units(f"{seed}:evaluation", items) < task.holdout))
    rows = rows.select(["messages", "id", "item", "question"]).filter(pc.is_in(rows["item"], value_set=held))
    examples: dict[str, dict] = {}
    for row in take_rows(rows, order(seed, rows["id"])).to_pylist():
        if row["item"] in examples:
            continue
        roles = [message["role"] for message in row["messages"]]
        turns = [n for n, role in enumerate(roles) if role == "assistant" and "user" in roles[:n]][:2]
        if not turns or not row["messages"][turns[-1]]["content"].strip():
            continue
        examples[row["item"]] = {
            "task": task.name,
            "id": row["id"],
            "item": row["item"],
            "question": row["question"],
            "prompt": row["messages"][: turns[-1]],
            "reference": row["messages"][turns[-1]]["content"],
        }
    if not examples:
        raise ParamError(
            f"tasks.{task.name}.holdout: no item of {task.source} is held out for the task. Raise the share, "
            "or take a source with more items."
        )
    return list(examples.values())


def _answers(tables: Iterable[pa.Table], questions: set[str]) -> dict[str, set[str]]:
    """Return the answers that rows give to these questions: what is said last."""
    answers: dict[str, set[str]] = {}
    wanted = pa.array(sorted(questions), pa.string())
    for rows in tables:
        rows = rows.filter(pc.is_in(rows["question"], value_set=wanted))
        for row in rows.select(["question", "messages"]).to_pylist():
            answers.setdefault(row["question"], set()).add(row["messages"][-1]["content"])
    return answers


def given_away(items: pa.Array | pa.ChunkedArray, tables: Iterable[pa.Table]) -> pa.Array:
    """Return these items with all that their rows in `tables` give away besides: what `without` takes out."""
    items = pc.unique(items)
    parts = [items]
    for rows in tables:
        parts.append(_flat(rows["related"].filter(pc.is_in(rows["item"], value_set=items))))
    return pc.unique(pa.concat_arrays(parts))


def without(rows: pa.Table, held: pa.Array) -> pa.Table:
    """Return the rows whose item is not among `held`, nor anything else that they give away."""
    out = np.asarray(pc.is_in(rows["item"], value_set=held))
    sizes = np.asarray(pc.fill_null(pc.list_value_length(rows["related"]), 0))
    hits = np.asarray(pc.is_in(_flat(rows["related"]), value_set=held))
    out |= np.bincount(np.repeat(np.arange(len(rows)), sizes)[hits], minlength=len(rows)) > 0
    return rows.filter(pa.array(~out))


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    flat = pc.list_flatten(lists)
    return flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat


def split(base: pa.Table, extra: pa.Table, forms: Mapping[str, pa.Table], params: HoldoutParams) -> Split:
    """Take validation items out of base and extra; evaluation items are out already.

    `forms` are the rows of the form of each task that is trained on, by the task's name. Held out are the
    share of base's items, and of each task so many more that `validation_per_task` distinct rows are there,
    or half of what the task has (an item with more rows than that is not held out for it). All by the same
    seeded hash. Raises ParamError where nothing of base is left.
    """
    seed = f"{params.seed}:validation"
    items = pc.unique(base["item"])
    shared = items.filter(pa.array(units(seed, items) < params.validation))
    chosen = [shared]
    for rows in forms.values():
        distinct = rows["item"].filter(_first_of_each(rows["id"]))
        wanted = min(params.validation_per_task, len(distinct) // 2)
        chosen.append(_enough(seed, distinct, wanted))
    items = pc.unique(pa.concat_arrays(chosen))
    tables = [base, extra, *forms.values()]
    held, by_share = given_away(items, tables), given_away(shared, tables)
    parts = [_of_task(rows, name) for name, rows in forms.items()] + [base.select(VALIDATION)]
    validation = pa.concat_tables(parts)
    validation = validation.filter(pc.is_in(validation["item"], value_set=items))
    validation = validation.filter(_first_of_each(validation["id"]))
    left = Split(without(base, held), without(extra, held), validation, 0)
    for rows, after in ((base, left.base), (extra, left.extra)):
        left.for_validation_per_task += len(without(rows, by_share)) - len(after)
    if not len(left.base):
        raise ParamError("data.holdout: nothing of data.base is left to train on. Lower the shares.")
    return left


def _enough(seed: str, items: pa.ChunkedArray, wanted: int) -> pa.Array:
    """Return the first items by seeded hash that have `wanted` rows; `items` are those of all rows.

    One with which they would have more than half of the rows is passed over.
    """
    counted = pc.value_counts(items)
    unique, counts = counted.field("values"), counted.field("counts").to_numpy()
    chosen: list[int] = []
    for place in order(seed, unique):
        held = int(counts[chosen].sum())
        if held >= wanted:
            break
        if held + counts[place] <= len(items) // 2:
            chosen.append(place)
    return unique.take(pa.array(chosen, pa.int64()))


def _of_task(rows: pa.Table, name: str) -> pa.Table:
    """Return a task's rows as validation has them: marked with its name."""
    rows = rows.select(VALIDATION)
    marks = pa.repeat(name, len(rows))
    return rows.set_column(VALIDATION.index("task"), "task", marks)


def _first_of_each(ids: pa.ChunkedArray) -> pa.Array:
    """Tell of each row whether it is its id's first.

    To filter by, not to take: Arrow joins a column's chunks to take from them, and 32-bit offsets overflow
    beyond 2 GiB of text.
    """
    first = np.zeros(len(ids), bool)
    first[np.unique(np.asarray(ids), return_index=True)[1]] = True
    return pa.array(first)
