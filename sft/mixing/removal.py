"""The rows that filters remove, with their reasons."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sft.core.files import replacing

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


def write(path: Path | str, tables: Iterable[pa.Table]) -> dict[str, dict[str, int]]:
    """Write removed rows (REMOVED), each table in the order of ids; count them by source and filter."""
    counts: Counter[tuple[str, str]] = Counter()
    sorting = [(column, "ascending") for column in ("id", "part", "filter", "source")]
    with replacing(path) as temporary, pq.ParquetWriter(temporary, REMOVED, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.sort_by(sorting))
            counts.update(zip(*(table[name].to_pylist() for name in ("source", "filter")), strict=True))
    by_source: dict[str, dict[str, int]] = {}
    for (source, name), rows in sorted(counts.items()):
        by_source.setdefault(source, {})[name] = rows
    return by_source
