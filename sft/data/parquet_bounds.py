"""Refusals of Parquet files that would unpack to more than the machine has."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft.core.errors import UserError
from sft.data.batch_sizes import dictionaries, size_of, written_out
from sft.data.limits import COLUMNS, RATIO, UNPACKED, mib
from sft.data.raw_rows import Part, UnreadableFile

# Where values of the dictionary may be repeated to more than the most a batch may have, rows are read by few.
FEW, _MOST_OF_BATCH = 64, 1 << 30


def check_footer(footer: pq.FileMetaData, label: str) -> None:
    """Raise for what the footer says: UserError for too many columns, UnreadableFile for a huge one."""
    if footer.num_columns > COLUMNS:
        raise UserError(
            f"{label}: has {footer.num_columns:,} columns, those within others counted, and {COLUMNS:,} at "
            "most are read. Leave out those that are not trained on."
        )
    for group in range(footer.num_row_groups):
        for chunk in _chunks(footer, group):
            packed, size = chunk.total_compressed_size, chunk.total_uncompressed_size
            if size > max(UNPACKED, RATIO * packed):
                what = f"{packed:,} bytes of column {chunk.path_in_schema!r} unpack to {mib(size)}"
                raise _bomb(label, what, footer)


def check_repeated(file: pq.ParquetFile, part: Part, groups: range) -> bool:
    """Tell whether a long value of a dictionary may repeat without end, so that rows must be read by few.

    Raises UnreadableFile where values repeat to far too much, in a few rows or in all row groups of the part.
    """
    columns = _repeating(file, part, groups)
    if not columns:
        return False
    total, most = 0, _most(file.metadata, groups)
    with pq.ParquetFile(part.path, buffer_size=1 << 20, read_dictionary=columns) as kept:
        for batch in kept.iter_batches(FEW, row_groups=list(groups), columns=columns, use_threads=False):
            size = sum(map(written_out, dictionaries(batch)))
            total += size
            if size > _MOST_OF_BATCH or total > most:
                what = f"values of {', '.join(columns)} repeat to {mib(max(size, total))} or more"
                raise _bomb(part.label, what, file.metadata)
    return True


def counted(
    batches: Iterator[pa.RecordBatch], footer: pq.FileMetaData, part: Part, groups: range
) -> Iterator[pa.RecordBatch]:
    """Yield the batches, as long as they are not far larger than their row groups are in the file."""
    size, most = 0, _most(footer, groups)
    for batch in batches:
        size += size_of(batch) + len(batch)
        if size > most:
            raise _bomb(
                part.label, f"{_packed(footer, groups):,} bytes unpack to more than {mib(size)}", footer
            )
        yield batch


def _bomb(label: str, what: str, footer: pq.FileMetaData) -> UnreadableFile:
    return UnreadableFile(
        f"{label}: {what}, which no data set does: the file is not what it should be. Fetch it again, or "
        "leave the column or the rows out that are so large.",
        footer.num_rows,
    )


def _chunks(footer: pq.FileMetaData, group: int) -> Iterator[pq.ColumnChunkMetaData]:
    row_group = footer.row_group(group)
    for column in range(footer.num_columns):
        yield row_group.column(column)


def _repeating(file: pq.ParquetFile, part: Part, groups: range) -> list[str]:
    """Return the columns in which a long value of the dictionary may be repeated without end.

    Only the dictionaries are read for that: they come with the first row of each row group.
    """
    # No value is longer than all of them together.
    suspects = {
        (group, chunk.path_in_schema): chunk.num_values
        for group in groups
        for chunk in _chunks(file.metadata, group)
        if chunk.physical_type == "BYTE_ARRAY"
        and chunk.num_values * chunk.total_uncompressed_size > _MOST_OF_BATCH
    }
    if not suspects:
        return []
    names = sorted({name for _, name in suspects})
    found = dict[str, None]()
    with pq.ParquetFile(part.path, buffer_size=1 << 20, read_dictionary=names) as kept:
        for (group, name), values in suspects.items():
            first = next(kept.iter_batches(1, row_groups=[group], columns=[name], use_threads=False), None)
            if first is not None and values * _longest(first) > _MOST_OF_BATCH:
                found[name] = None
    return list(found)


def _longest(batch: pa.RecordBatch) -> int:
    """Return the length of the longest value in the batch's dictionaries."""
    return max(
        (pc.max(pc.binary_length(leaf.dictionary)).as_py() or 0 for leaf in dictionaries(batch)), default=0
    )


def _packed(footer: pq.FileMetaData, groups: range) -> int:
    return sum(chunk.total_compressed_size for group in groups for chunk in _chunks(footer, group))


def _most(footer: pq.FileMetaData, groups: range) -> int:
    """Return how large these row groups may become."""
    return max(4 * UNPACKED, RATIO * _packed(footer, groups))
