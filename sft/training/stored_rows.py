"""The rows that training reads from: ids and kinds of all of them, messages and tools of some by need."""

import math
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from sft.core import shard_rows, shards
from sft.core.row_schema import take_rows

COLUMNS = ["id", "kind", "messages", "tools"]
# Rows fetched at once: so many at first, then twice as many each time, up to so many bytes.
FIRST_BLOCK = 4096
BLOCK_BYTES = 1 << 28
_OFFSETS = 256  # bytes a row, some two messages', that Arrow needs beside the texts


class StoredRows(Protocol):
    """Rows by their places, from 0 on: `index` has id and kind of each, `row_bytes` is the size of one."""

    index: pa.Table
    row_bytes: float

    def __len__(self) -> int: ...

    def take(self, places: np.ndarray) -> pa.Table:
        """Return COLUMNS of the rows at these places, ascending and distinct, with 64-bit offsets."""


class TableRows:
    """Rows of a table."""

    def __init__(self, table: pa.Table) -> None:
        self.index = table.select(["id", "kind"])
        self.row_bytes = table.nbytes / max(1, len(table))
        self._table = table.select(COLUMNS)

    def __len__(self) -> int:
        return len(self.index)

    def take(self, places: np.ndarray) -> pa.Table:
        """Return COLUMNS of the rows at these places, ascending and distinct, with 64-bit offsets."""
        return take_rows(self._table, places)


class ShardRows:
    """Rows of a folder of shards (sft/core/shards.py). Raises as `shards.read` does."""

    def __init__(self, folder: Path | str) -> None:
        tables = [_coded(table) for table in shards.tables(folder, ["id", "kind"])]
        self.index = pa.concat_tables(tables).unify_dictionaries()
        texts = sum(
            group.column(column).total_uncompressed_size
            for footer in map(shards.footer, shards.paths(folder))
            for group in map(footer.row_group, range(footer.num_row_groups))
            for column in range(group.num_columns)
            if group.column(column).path_in_schema.partition(".")[0] in ("messages", "tools")
        )
        self.row_bytes = texts / max(1, len(self.index)) + _OFFSETS
        self._folder = folder

    def __len__(self) -> int:
        return len(self.index)

    def take(self, places: np.ndarray) -> pa.Table:
        """Return COLUMNS of the rows at these places, ascending and distinct, with 64-bit offsets.

        Each call reads all shards that have such a row.
        """
        return shard_rows.take(self._folder, places, COLUMNS)


def _coded(table: pa.Table) -> pa.Table:
    """Return the table with its kinds as numbers: there are few of them."""
    return table.set_column(1, "kind", table["kind"].dictionary_encode())


class Blocks:
    """The rows in memory: those that were fetched last."""

    def __init__(self, stored: StoredRows) -> None:
        self.most = max(FIRST_BLOCK, math.ceil(BLOCK_BYTES / max(1.0, stored.row_bytes)))
        self._stored, self._next_size = stored, min(FIRST_BLOCK, len(stored))
        self._places, self._table = np.empty(0, np.int64), pa.table({})

    def next_size(self, left: int) -> int:
        """Return how many rows to fetch next, where it takes `left` rows more at least."""
        size = min(max(left, self._next_size), self.most)
        self._next_size = 2 * size
        return size

    def fetch(self, places: np.ndarray) -> None:
        """Fetch the rows at these places, and forget the others."""
        self._table = pa.table({})  # before the next are in memory
        self._places = np.unique(places)
        # In one piece: Arrow joins a column's pieces whenever rows are taken from it.
        self._table = self._stored.take(self._places).combine_chunks()

    def rows(self, places: np.ndarray) -> pa.Table:
        """Return rows that have been fetched."""
        return self._table.take(pa.array(np.searchsorted(self._places, places)))
