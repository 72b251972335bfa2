"""Parquet to raw Arrow tables: a part is a run of row groups, read in batches of bounded size."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sft.data import parquet_bounds
from sft.data.batch_sizes import long_rows
from sft.data.flags import Verdicts
from sft.data.layouts import label_columns, with_flags
from sft.data.limits import ROW
from sft.data.raw_rows import FileReason, Part, Raw, UnreadableFile, in_batches
from sft.data.source_rows import Reject

# Rows of a batch where they are not large, and the bytes that a batch should have, as the footer counts.
_ROWS, _BYTES = 8_192, 32 << 20


def parts(whole: Part, size: int) -> list[Part]:
    """Cut a file into runs of row groups of some `size` bytes unpacked.

    Raises UnreadableFile where it is no Parquet, is truncated or unpacks to far too much by its footer, and
    UserError for too many columns. `common` of a part is the label column that holds verdicts, if any.
    """
    with _opened(whole) as file:
        footer = file.metadata
        parquet_bounds.check_footer(footer, whole.label)
        verdicts = _verdicts(file)
        found, begin, first, held, rows = [], 0, 0, 0, 0
        for group in range(footer.num_row_groups):
            held += footer.row_group(group).total_byte_size
            rows += footer.row_group(group).num_rows
            if held >= size or group == footer.num_row_groups - 1:
                piece = (begin, group + 1)
                found.append(Part(whole.path, whole.label, held, piece, first, verdicts))
                begin, first, held, rows = group + 1, first + rows, 0, 0
        return found or [Part(whole.path, whole.label, 0, (0, 0), 0, verdicts)]


def read(part: Part) -> Iterator[Raw]:
    """Yield a part's rows; raises UnreadableFile where they are damaged or unpack to far too much."""
    assert part.piece is not None
    groups = range(*part.piece)
    with _opened(part) as file:
        few = parquet_bounds.check_repeated(file, part, groups)
        rows = parquet_bounds.FEW if few else _rows_of_batch(file.metadata, groups)
        # One thread: other parts are read at the same time.
        batches = file.iter_batches(rows, row_groups=list(groups), use_threads=False)
        number, none = part.first, True
        for batch in parquet_bounds.counted(batches, file.metadata, part, groups):
            batch.validate(full=True)
            table = with_flags(pa.Table.from_batches([batch]), part.common)
            yield from in_batches(_without_long_rows(table, batch, number, part.label))
            number, none = number + len(batch), False
        if none:
            yield Raw(with_flags(file.schema_arrow.empty_table(), part.common), range(0))


@contextmanager
def _opened(part: Part) -> Iterator[pq.ParquetFile]:
    """Open a file; of a large row group no more is in memory than what is read next."""
    rows = 1
    try:
        with pq.ParquetFile(part.path, buffer_size=1 << 20) as file:
            rows = file.metadata.num_rows
            yield file
    except (pa.ArrowException, OSError) as error:
        raise UnreadableFile(
            f"{part.label}: not a readable Parquet file, perhaps truncated ({error}). "
            "Delete it and fetch or make it again.",
            rows,
        ) from error


def _rows_of_batch(footer: pq.FileMetaData, groups: range) -> int:
    size = sum(footer.row_group(group).total_byte_size for group in groups)
    rows = sum(footer.row_group(group).num_rows for group in groups)
    return max(1, min(_ROWS, rows * _BYTES // max(size, 1)))


def _verdicts(file: pq.ParquetFile) -> str | None:
    """Return the label column of which all values are verdicts; only such columns are read for that."""
    for name in label_columns(file.schema_arrow):
        verdicts = Verdicts()
        for batch in file.iter_batches(1 << 16, columns=[name], use_threads=False):
            verdicts.look(batch.column(0))
        if verdicts:
            return name
    return None


def _without_long_rows(table: pa.Table, batch: pa.RecordBatch, first: int, label: str) -> Raw:
    """Take the rows out that are longer than a row may be; the first of the rows has the number `first`."""
    long = long_rows(batch, ROW)
    if not long:
        return Raw(table, range(first, first + len(batch)))
    stay = np.ones(len(batch), bool)
    stay[long] = False
    rejects = [Reject(label, first + row, FileReason.TOO_LONG, "(not shown)") for row in long]
    return Raw(table.filter(pa.array(stay)), (first + np.flatnonzero(stay)).tolist(), rejects)
