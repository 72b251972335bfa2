"""Parquet to raw Arrow tables, and refusals of files that would unpack to more than the machine has."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft.core.errors import UserError
from sft.data.batch_sizes import dictionaries, long_rows, size_of, written_out
from sft.data.limits import COLUMNS, RATIO, ROW, UNPACKED, mib
from sft.data.raw_rows import FileReason, Raw
from sft.data.source_rows import Reject

# Reading a row group at once fails where its nested strings pass 2 GB.
_BATCH = 8_192
# Where values of the dictionary may be repeated to more than the most a batch may have, rows are read by few.
_FEW, _MOST_OF_BATCH = 64, 1 << 30


def read_parquet(path: Path, label: str) -> Raw:
    """Read a Parquet file; raises UserError where it is none, is damaged, or unpacks to far too much."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            _check_footer(file.metadata, label)
            repeating = _repeating(path, file.metadata)
            if repeating:
                _check_repeated(path, repeating, label)
            batches = _counted(file.iter_batches(_FEW if repeating else _BATCH), path, label)
            table = pa.Table.from_batches(batches, file.schema_arrow)
        table.validate(full=True)
        return _without_long_rows(table, label)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{label}: not a readable Parquet file, perhaps truncated ({error}). "
            "Delete it and fetch or make it again."
        ) from error


def _bomb(label: str, what: str) -> UserError:
    return UserError(
        f"{label}: {what}, which no data set does: the file is not what it should be. Fetch it again, or "
        "leave the column or the rows out that are so large."
    )


def _check_footer(footer: pq.FileMetaData, label: str) -> None:
    if footer.num_columns > COLUMNS:
        raise UserError(
            f"{label}: has {footer.num_columns:,} columns, those within others counted, and {COLUMNS:,} at "
            "most are read. Leave out those that are not trained on."
        )
    for chunk in _chunks(footer):
        packed, size = chunk.total_compressed_size, chunk.total_uncompressed_size
        if size > max(UNPACKED, RATIO * packed):
            raise _bomb(label, f"{packed:,} bytes of column {chunk.path_in_schema!r} unpack to {mib(size)}")


def _chunks(footer: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    for group in range(footer.num_row_groups):
        for column in range(footer.num_columns):
            yield footer.row_group(group).column(column)


def _counted(batches: Iterator[pa.RecordBatch], path: Path, label: str) -> Iterator[pa.RecordBatch]:
    """Yield the batches, as long as they are not far larger than the file."""
    size, packed = 0, path.stat().st_size
    for batch in batches:
        size += size_of(batch) + len(batch)
        if size > _most(packed):
            raise _bomb(label, f"{packed:,} bytes unpack to more than {mib(size)}")
        yield batch


def _repeating(path: Path, footer: pq.FileMetaData) -> list[str]:
    """Return the columns in which a long value of the dictionary may be repeated without end.

    Only the dictionaries are read for that: they come with the first row of each row group.
    """
    columns = {chunk.path_in_schema for chunk in _chunks(footer) if chunk.physical_type == "BYTE_ARRAY"}
    found = dict[str, None]()
    with pq.ParquetFile(path, memory_map=True, read_dictionary=sorted(columns)) as file:
        for group in range(footer.num_row_groups):
            row_group = footer.row_group(group)
            chunks = [row_group.column(column) for column in range(footer.num_columns)]
            for chunk in chunks:
                values, name = chunk.num_values, chunk.path_in_schema
                # No value is longer than all of them together.
                if name not in columns or values * chunk.total_uncompressed_size <= _MOST_OF_BATCH:
                    continue
                first = next(file.iter_batches(batch_size=1, row_groups=[group], columns=[name]), None)
                if first is not None and values * _longest(first) > _MOST_OF_BATCH:
                    found[name] = None
    return list(found)


def _longest(batch: pa.RecordBatch) -> int:
    """Return the length of the longest value in the batch's dictionaries."""
    return max(
        (pc.max(pc.binary_length(leaf.dictionary)).as_py() or 0 for leaf in dictionaries(batch)), default=0
    )


def _check_repeated(path: Path, columns: list[str], label: str) -> None:
    """Raise UserError where values repeat to far too much, in a few rows or in all."""
    total, packed = 0, path.stat().st_size
    with pq.ParquetFile(path, memory_map=True, read_dictionary=columns) as file:
        for batch in file.iter_batches(batch_size=_FEW, columns=columns):
            size = sum(map(written_out, dictionaries(batch)))
            total += size
            if size > _MOST_OF_BATCH or total > _most(packed):
                raise _bomb(
                    label, f"values of {', '.join(columns)} repeat to {mib(max(size, total))} or more"
                )


def _most(packed: int) -> int:
    """Return how large a file of so many bytes may become."""
    return max(4 * UNPACKED, RATIO * packed)


def _without_long_rows(table: pa.Table, label: str) -> Raw:
    """Take the rows out that are longer than a row may be."""
    long, start = [], 0
    for batch in table.to_batches():
        long += [start + at for at in long_rows(batch, ROW)]
        start += len(batch)
    if not long:
        return Raw(table)
    stay = np.ones(len(table), bool)
    stay[long] = False
    rejects = [Reject(label, row, FileReason.TOO_LONG, "(not shown)") for row in long]
    return Raw(table.filter(pa.array(stay)), rejects, np.flatnonzero(stay).tolist())
