"""Some rows of a folder of shards, without holding the others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sft.core import shards
from sft.core.errors import UserError
from sft.core.files import reading_parquet
from sft.core.row_schema import take_rows


def take(folder: Path | str, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Return the rows of these numbers, ascending and distinct, counted from 0 through all shards.

    In memory are they and a row group (Arrow's own `Dataset.take` reads ahead: it takes longer, and twice the
    memory). Messages and tools come with 64-bit offsets. Raises as `shards.read` does, and UserError where
    there are fewer rows.
    """
    found, start = [], 0
    for path in shards.paths(folder):
        with reading_parquet(path), pq.ParquetFile(path, memory_map=True) as file:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                first, last = np.searchsorted(rows, [start, end])
                if first < last:
                    read = file.read_row_group(group, list(columns))
                    found.append(take_rows(read, rows[first:last] - start))
                start = end
    if len(rows) and rows[-1] >= start:
        raise UserError(f"{folder}: was changed while it was read. Run the command again.")
    return pa.concat_tables(found or [shards.read(folder, columns).slice(0, 0)])
