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
from sft.core.row_schema import HOLDOUT_ONLY, MESSAGES, SCHEMA, take_rows
from sft.core.seeded_order import order, units
from sft.data.tool_calls import calls_as_text
from sft.tasks.metric_names import MULTIPLE_CHOICE, TOOL_CALL
from sft.tasks.task import Task


class HoldoutParams(Params):
    """`data.holdout`: the seed of all that is held out, the share of base's items for validation, and the
    rows that there are at least: of every task that is trained on, and of base's sources without a task.
    """

    seed: Integer
    validation: Share
    validation_per_task: Count


EXAMPLES = pa.schema(
    [
        ("task", pa.string()),
        ("id", pa.string()),
        ("item", pa.string()),
        ("prompt", MESSAGES),
        ("tools", pa.string()),
        # The example's own answer first, then the others that its question has. Of an answer that calls
        # tools, the calls as JSON: [{"name": ..., "arguments": {...}}].
        ("references", pa.list_(pa.string())),
        # What the own answer's row has as the assistant's thoughts before it.
        ("reasoning", pa.string()),
        # The own answer's calls in OpenAI's form, as the row has them.
        ("calls", pa.string()),
        # What there is to choose from, for multiple choice; the own answer is one of them.
        ("choices", pa.list_(pa.string())),
    ]
)
# The column of a source's own with the choices: a list of texts.
CHOICES = "choices"
# A share of the items holds out so many at least, or a fifth of them where there are fewer than five times
# as many: fewer than 16 examples are not judged.
FEWEST_ITEMS = 32
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

    The prompt is all that comes before the reference (`_reference`). A row without one is no example.
    """
    held = _held(pc.unique(rows["item"]), task, seed)
    columns = ["messages", "tools", "id", "item", "question"]
    columns += [CHOICES] if MULTIPLE_CHOICE in task.metrics else []
    if columns[-1] not in rows.column_names:
        raise ParamError(
            f"tasks.{task.name}.metrics: {MULTIPLE_CHOICE} needs a column {CHOICES!r}, a list of texts, and "
            f"{task.source} has none."
        )
    marked = rows["task"].null_count < len(rows)
    rows = rows.filter(pc.is_in(rows["item"], value_set=held)).select(columns)
    examples: dict[str, dict] = {}
    for row in take_rows(rows, order(seed, rows["id"])).to_pylist():
        at = (
            None
            if row["item"] in examples
            else _reference(row["messages"], marked, TOOL_CALL in task.metrics)
        )
        if at is None:
            continue
        answer = row["messages"][at]
        examples[row["item"]] = {
            "task": task.name,
            "id": row["id"],
            "item": row["item"],
            "question": row["question"],
            "prompt": row["messages"][:at],
            "tools": row["tools"],
            "reference": calls_as_text(answer["tool_calls"]) if answer["tool_calls"] else answer["content"],
            "reasoning": answer["reasoning"],
            "calls": answer["tool_calls"],
            "choices": _choices(row, answer["content"], task),
        }
    if not examples:
        raise ParamError(
            f"tasks.{task.name}.holdout: no item of {task.source} is held out for the task. Raise the share, "
            "or take a source with more items."
        )
    return list(examples.values())


def _held(items: pa.Array, task: Task, seed: int) -> pa.Array:
    """Return the items that are held out for a task: those with the lowest hashes."""
    numbers = units(f"{seed}:evaluation", items)
    count = task.holdout
    if isinstance(count, int) and count > len(items):
        raise ParamError(
            f"tasks.{task.name}.holdout: {count:,} items are asked for, and {task.source} has "
            f"{len(items):,}. Ask for fewer, or for a share of them such as 0.2."
        )
    if isinstance(count, float):
        floor = min(FEWEST_ITEMS, len(items) // 5) if count else 0
        count = max(int((numbers < count).sum()), floor)
    return items.take(pa.array(np.argsort(numbers, kind="stable")[:count]))


def _reference(messages: list[dict], marked: bool, calling: bool) -> int | None:
    """Return the place of the assistant's turn that is the reference; None where there is none.

    It is the last one. Of rows that a reader has `marked` with a task it is the second (the first where there
    is one only), so that a long dialogue does not cost a long prompt. For a task that scores tool calls
    (`calling`) it is the last turn with calls, where there is one. Only turns that a user's comes before
    count, neither blank nor left out of the loss.
    """
    roles = [message["role"] for message in messages]
    turns = [n for n, role in enumerate(roles) if role == "assistant" and "user" in roles[:n]]
    turns = [n for n in turns if messages[n]["trained"] is not False]
    if calling:
        turns = [n for n in turns if messages[n]["tool_calls"]] or turns
    if marked:
        turns = turns[:2]
    if not turns or not (messages[turns[-1]]["content"].strip() or messages[turns[-1]]["tool_calls"]):
        return None
    return turns[-1]


def _choices(row: dict, answer: str, task: Task) -> list[str] | None:
    """Return a row's choices, None where the task has no use for them."""
    if MULTIPLE_CHOICE not in task.metrics:
        return None
    choices = row[CHOICES] or []
    if len(choices) < 2 or answer.strip() not in [(choice or "").strip() for choice in choices]:
        raise ParamError(
            f"tasks.{task.name}.metrics: {MULTIPLE_CHOICE}: of the row {row['id']} of {task.source} the "
            f"answer is none of the column {CHOICES!r}, which must list two texts at least. Mend or leave "
            "out the row."
        )
    return choices


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


def split(
    base: pa.Table,
    extra: pa.Table,
    forms: Mapping[str, pa.Table],
    params: HoldoutParams,
    others: Sequence[pa.Table] = (),
) -> Split:
    """Take validation items out of base and extra; evaluation items are out already.

    `forms` are the rows of the form of each task that is trained on, by the task's name; `others` those of
    each of base's sources that no task is made from. Held out are the share of base's items, and so many more
    that `validation_per_task` distinct rows are there of each task, or a quarter of what it has, and of each
    other source, or a tenth of it. An item with which they would have more than half is not held out for it.
    All by the same seeded hash. Raises ParamError where nothing of base is left.
    """
    seed = f"{params.seed}:validation"
    items = pc.unique(base["item"])
    shared = items.filter(pa.array(units(seed, items) < params.validation))
    chosen = [shared]
    for rows, part in [*((rows, 4) for rows in forms.values()), *((rows, 10) for rows in others)]:
        distinct = rows["item"].filter(_first_of_each(rows["id"]))
        wanted = min(params.validation_per_task, max(len(distinct) // part, min(1, len(distinct) - 1)))
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
