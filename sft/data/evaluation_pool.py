"""The evaluation examples: which items are held out for a task, what of their rows is asked and scored."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError
from sft.core.row_schema import MESSAGES, take_rows
from sft.core.seeded_order import order, ranks
from sft.data.tool_calls import calls_as_text
from sft.tasks.metric_names import MULTIPLE_CHOICE, TOOL_CALL
from sft.tasks.task import Task

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


# Returns rows with their messages and the other columns that are named, of the source of this URI.
Fetch: TypeAlias = Callable[[str, pa.Table, Sequence[str]], pa.Table]


def evaluation_pool(
    sources: Mapping[str, pa.Table],
    tasks: Sequence[Task],
    seed: int,
    fetch: Fetch | None = None,
) -> pa.Table:
    """Build the examples of EXAMPLES, one an item held out for a task: task by task, ranked by seeded hash.

    `sources` has rows by URI: of the tasks' sources, and of those that may have further answers to the same
    questions. Their messages, tools and choices may be elsewhere: `fetch` gets them then. A prefix of a
    task's examples is what `evaluate.examples` takes. Raises ParamError where a source has no row of its
    task's form, or no item is held out.
    """
    fetch = fetch or _columns
    examples = [row for task in tasks for row in _examples(sources[task.source], task, seed, fetch)]
    answers = _answers(sources, {row["question"] for row in examples} - {None}, fetch)
    for row in examples:
        others = answers.get(row.pop("question"), set()) - {row["reference"]}
        row["references"] = [row.pop("reference"), *sorted(others)]
    return pa.Table.from_pylist(examples, EXAMPLES)


def _columns(_: str, rows: pa.Table, names: Sequence[str]) -> pa.Table:
    return rows.select([name for name in names if name in rows.column_names])


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


def _examples(rows: pa.Table, task: Task, seed: int, fetch: Fetch) -> list[dict]:
    """Build a task's examples from its source's rows of its form, each with its question.

    The prompt is all that comes before the reference (`_reference`). A row without one is no example.
    """
    rows = of_form(rows, task)
    held = _held(rows["item"], task, seed)
    marked = rows["task"].null_count < len(rows)
    columns = ["messages", "tools", "id", "item", "question"]
    columns += [CHOICES] if MULTIPLE_CHOICE in task.metrics else []
    rows = rows.filter(pc.is_in(rows["item"], value_set=held))
    rows = fetch(task.source, rows, columns)
    if columns[-1] not in rows.column_names:
        raise ParamError(
            f"tasks.{task.name}.metrics: {MULTIPLE_CHOICE} needs a column {CHOICES!r}, a list of texts, and "
            f"{task.source} has none."
        )
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


def _held(items: pa.ChunkedArray, task: Task, seed: int) -> pa.Array:
    """Return the items that are held out for a task, of all items of its rows: by the lowest hashes."""
    # Not by the items themselves, of which there may be millions: different ones have different hashes.
    ranked = ranks(f"{seed}:evaluation", items)
    # Not by np.unique, which since numpy 2.3 has a table of all values: 8 s of 5 million, and the memory.
    hashes = np.sort(ranked)
    hashes = hashes[np.concatenate([[True], hashes[1:] != hashes[:-1]])] if len(hashes) else hashes
    count = task.holdout
    if isinstance(count, int) and count > len(hashes):
        raise ParamError(
            f"tasks.{task.name}.holdout: {count:,} items are asked for, and {task.source} has "
            f"{len(hashes):,}. Ask for fewer, or for a share of them such as 0.2."
        )
    if isinstance(count, float):
        floor = min(FEWEST_ITEMS, len(hashes) // 5) if count else 0
        count = max(int((hashes / 2.0**64 < count).sum()), floor)
    few = ranked <= hashes[count - 1] if count else np.zeros(len(items), bool)
    _, first = np.unique(ranked[few], return_index=True)
    return items.filter(pa.array(few)).take(pa.array(first)).combine_chunks()


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


def _answers(sources: Mapping[str, pa.Table], questions: set[str], fetch: Fetch) -> dict[str, set[str]]:
    """Return the answers that rows give to these questions: what is said last."""
    answers: dict[str, set[str]] = {}
    wanted = pa.array(sorted(questions), pa.string())
    for uri, rows in sources.items():
        rows = rows.filter(pc.is_in(rows["question"], value_set=wanted))
        for row in fetch(uri, rows, ["question", "messages"]).to_pylist() if len(rows) else ():
            answers.setdefault(row["question"], set()).add(row["messages"][-1]["content"])
    return answers
