"""What the rows of a source are like: roles, answers a row, how they end, exact repetitions."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BATCH = 8_192  # rows looked at at a time


@dataclass(frozen=True)
class Profile:
    """Counts over standardized rows.

    `messages` counts messages by role, and `rows_with` the rows that have one; `answers` counts rows by their
    number of assistant messages, and `ends_on` by the role of the last message. `repeated` counts the rows
    whose conversation an earlier one has.
    """

    rows: int
    messages: dict[str, int]
    rows_with: dict[str, int]
    answers: dict[int, int]
    ends_on: dict[str, int]
    repeated: int


def profile(table: pa.Table) -> Profile:
    """Count over standardized rows (columns id and messages)."""
    messages: Counter[str] = Counter()
    rows_with: Counter[str] = Counter()
    answers: Counter[int] = Counter()
    ends_on: Counter[str] = Counter()
    for batch in table.select(["messages"]).to_batches(max_chunksize=_BATCH):
        lists = batch["messages"]
        sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        row = np.repeat(np.arange(len(batch)), sizes)
        encoded = lists.flatten().field("role").dictionary_encode()
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
    return Profile(
        rows=len(table),
        messages=dict(messages.most_common()),
        rows_with=dict(rows_with),
        answers={number: rows for number, rows in sorted(answers.items()) if rows},
        ends_on={role: rows for role, rows in ends_on.most_common() if rows},
        repeated=len(table) - pc.count_distinct(table["id"]).as_py(),
    )
