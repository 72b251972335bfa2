"""What the rows of a source are like: roles, answers a row, how they end, what they have beside texts."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BATCH = 8_192  # rows looked at at a time


# What a message may have beside its text; the counts that Profile has of them.
EXTRAS = ("reasoning", "tool_calls", "tools", "untrained")


@dataclass(frozen=True)
class Profile:
    """Counts over standardized rows.

    `messages` counts messages by role, and `rows_with` the rows that have one; `answers` counts rows by their
    number of assistant messages, and `ends_on` by the role of the last message. `extras` counts the rows with
    each of EXTRAS: an assistant's thoughts, its calls of tools, tools that it may call, and answers of its
    that the source excepts from training.
    """

    rows: int
    messages: dict[str, int]
    rows_with: dict[str, int]
    answers: dict[int, int]
    ends_on: dict[str, int]
    extras: dict[str, int]


def profile(table: pa.Table) -> Profile:
    """Count over standardized rows (columns messages and tools)."""
    messages: Counter[str] = Counter()
    rows_with: Counter[str] = Counter()
    answers: Counter[int] = Counter()
    ends_on: Counter[str] = Counter()
    extras = dict.fromkeys(EXTRAS, 0)
    extras["tools"] = len(table) - table["tools"].null_count
    for batch in table.select(["messages"]).to_batches(max_chunksize=_BATCH):
        lists = batch["messages"]
        sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        row = np.repeat(np.arange(len(batch)), sizes)
        flat = lists.flatten()
        encoded = flat.field("role").dictionary_encode()
        roles, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
        last = np.cumsum(sizes)[sizes > 0] - 1
        of_assistant = np.zeros(len(batch), np.int64)
        for code, role in enumerate(roles):
            of_row = np.bincount(row[codes == code], minlength=len(batch))
            messages[role] += int(of_row.sum())
            rows_with[role] += int((of_row > 0).sum())
            ends_on[role] += int((codes[last] == code).sum())
            if role == "assistant":
                of_assistant = of_row
        for number, rows in enumerate(np.bincount(of_assistant).tolist()):
            answers[number] += rows
        for name, has in (
            ("reasoning", pc.is_valid(flat.field("reasoning"))),
            ("tool_calls", pc.is_valid(flat.field("tool_calls"))),
            ("untrained", pc.equal(pc.fill_null(flat.field("trained"), True), False)),
        ):
            extras[name] += len(np.unique(row[np.asarray(has)]))
    return Profile(
        rows=len(table),
        messages=dict(messages.most_common()),
        rows_with=dict(rows_with),
        answers={number: rows for number, rows in sorted(answers.items()) if rows},
        ends_on={role: rows for role, rows in ends_on.most_common() if rows},
        extras={name: rows for name, rows in extras.items() if rows},
    )
