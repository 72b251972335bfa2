"""The rows that filters remove, with their reasons."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

REMOVED = pa.schema(
    [
        ("id", pa.string()),
        ("part", pa.string()),
        ("source", pa.string()),
        ("filter", pa.string()),
        ("reason", pa.string()),
        # The row that stays, or the evaluation example, that the row is like.
        ("match", pa.string()),
    ]
)


@dataclass
class Removal:
    """The rows that a filter removes: a mask over all rows, and of those that go the reasons, for people.

    `matches` has the ids of what they are like, where the filter compares.
    """

    mask: np.ndarray
    reasons: list[str]
    matches: list[str] | None = None

    def table(self, name: str, rows: pa.Table) -> pa.Table:
        """Return those of `rows` that the filter `name` removes, as a table of REMOVED."""
        gone = rows.select(["id", "part", "source"]).filter(pa.array(self.mask))
        return removed(name, gone, self.reasons, self.matches)


def removed(
    name: str, gone: pa.Table, reasons: list[str], matches: pa.ChunkedArray | list[str] | None
) -> pa.Table:
    """Return rows that the filter `name` removes as a table of REMOVED."""
    columns = {
        "id": gone["id"],
        "part": gone["part"],
        "source": gone["source"],
        "filter": pa.repeat(name, len(gone)),
        "reason": pa.array(reasons, pa.string()),
        "match": pa.nulls(len(gone), pa.string()) if matches is None else matches,
    }
    return pa.table(columns, schema=REMOVED)
