"""Standardized rows on the disk, on their way to the shards: in pieces whose rows are grouped by id.

A piece is an Arrow file of some 64 MB of text: its batch k has the rows whose ids begin with the bits of k,
so all rows of a shard are read without reading others. The column `seq` numbers rows in the order of the
sources.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core import shards
from sft.core.errors import UserError
from sft.core.row_schema import SCHEMA
from sft.data.arrays import is_list, is_text
from sft.data.batch_sizes import written_out

SEQ = "seq"
# Text of a piece, which is sorted at once.
TEXT = 1 << 26
# Parts of a number in `seq`: of the source, of the part of its files, of the row in it.
_PART_BITS, _ROW_BITS = 24, 32
SOURCE_SHIFT = _PART_BITS + _ROW_BITS
MOST_SOURCES = 1 << (63 - SOURCE_SHIFT)
_SMALL = set(SCHEMA.names) - {"messages", "tools"}


@dataclass(frozen=True)
class Piece:
    """A file of rows, of the source of this number."""

    path: Path
    source: int
    bits: int

    def batches(self, number: int, bits: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of shard `number` of 2^bits; the last ones may need `of_shard`."""
        with _opened(self.path) as file:
            if bits >= self.bits:
                yield file.get_batch(number >> (bits - self.bits))
                return
            wide = self.bits - bits
            for batch in range(number << wide, (number + 1) << wide):
                yield file.get_batch(batch)

    def all_batches(self, only: Iterable[int] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield all rows, or those of some batches."""
        with _opened(self.path) as file:
            for number in range(file.num_record_batches) if only is None else sorted(only):
                if len(batch := file.get_batch(number)):
                    yield batch


def _opened(path: Path) -> pa.ipc.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: what was just written cannot be read ({error}). Check the disk.") from error


class PieceWriter:
    """Writes rows to pieces as they come; `size` counts the bytes of their texts, `pieces` are the files."""

    def __init__(self, folder: Path, source: int, part: int, bits: int) -> None:
        if part >= 1 << _PART_BITS:
            raise UserError(f"A source has more than {part:,} files, or parts of some. Join some of them.")
        self.folder, self.source, self.part, self.bits = folder, source, part, bits
        self.pieces: list[Piece] = []
        self.size = self.rows = 0
        self._waiting: list[pa.Table] = []
        self._waiting_size = 0

    def add(self, table: pa.Table) -> np.ndarray:
        """Write rows behind those before; return their `seq`."""
        begin = ((self.source << _PART_BITS | self.part) << _ROW_BITS) + self.rows
        seq = np.arange(begin, begin + len(table), dtype=np.int64)
        self.rows += len(table)
        size = text_of(table)
        self.size += size
        self._waiting_size += size
        self._waiting.append(table.append_column(SEQ, pa.array(seq)))
        if self._waiting_size > TEXT:
            self.flush()
        return seq

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting, promote_options="permissive").combine_chunks()
        self._waiting, self._waiting_size = [], 0
        if not len(table):  # a part that is empty, or rejects only
            return
        first, second = shards.keys(table["id"])
        order = np.lexsort((table[SEQ].to_numpy(), second, first))
        ends = np.searchsorted(
            shards.number_of(first[order], self.bits), np.arange(1 << self.bits), side="right"
        )
        batch = table.take(pa.array(order)).combine_chunks().to_batches()[0]
        path = self.folder / f"{self.source:03}-{self.part:06}-{len(self.pieces):03}.arrow"
        partial = path.with_suffix(".partial")
        try:
            # Not packed: lz4 took longer than writing what it saves, and three passes would unpack it.
            with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, batch.schema) as to:
                begin = 0
                for end in ends.tolist():
                    to.write_batch(batch.slice(begin, end - begin))
                    begin = end
            partial.replace(path)
        except OSError as error:
            raise UserError(
                f"{path.parent}: the rows cannot be written: {error.strerror or error}. Free disk space: "
                "what the sources have unpacked is needed there for a while."
            ) from error
        self.pieces.append(Piece(path, self.source, self.bits))


def text_of(table: pa.Table) -> int:
    """Return the bytes of what makes rows large: their messages, tools and kept columns, but not roles."""
    names = [name for name in table.column_names if name not in _SMALL]
    return sum(_bytes_of(chunk) for name in names for chunk in table[name].chunks)


def _bytes_of(array: pa.Array) -> int:
    """Return the bytes of an array's values; of texts without their offsets, so however it is cut."""
    kind = array.type
    if array.null_count == len(array):
        return 0
    if pa.types.is_dictionary(kind):
        return written_out(array)
    if is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pc.sum(pc.binary_length(array)).as_py()
    if is_list(kind):
        return _bytes_of(array.flatten())
    if pa.types.is_struct(kind):
        return sum(
            _bytes_of(inner)
            for field, inner in zip(kind, array.flatten(), strict=True)
            if field.name != "role"
        )
    return array.nbytes


def of_shard(piece_tables: Sequence[pa.Table], number: int, bits: int) -> pa.Table:
    """Put rows behind one another, without those of other shards, which coarser pieces bring along."""
    table = pa.concat_tables(piece_tables)
    mine = shards.number_of(shards.keys(table["id"])[0], bits) == number
    return table if mine.all() else table.filter(pa.array(mine))


def rows_of_shard(pieces: Sequence[Piece], schema: pa.Schema, number: int, bits: int) -> pa.Table:
    """Read a shard's rows, as columns of the schema and SEQ: a column that a piece lacks is null."""
    wanted = schema.append(pa.field(SEQ, pa.int64()))
    tables = [wanted.empty_table()]
    for piece in pieces:
        for batch in piece.batches(number, bits):
            if len(batch):
                tables.append(fitted(pa.Table.from_batches([batch]), wanted))
    return of_shard(tables, number, bits)


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of the schema: a column that it lacks is null."""
    names = [name for name in schema.names if name in table.column_names]
    return pa.concat_tables([schema.empty_table(), table.select(names)], promote_options="permissive").select(
        schema.names
    )


def among(values: pa.Array | pa.ChunkedArray, wanted: np.ndarray) -> np.ndarray:
    """Mark the values that are among `wanted`, ascending; without nulls."""
    found = [np.zeros(0, bool)]
    for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
        array = chunk.to_numpy()
        place = np.searchsorted(wanted, array)
        place[place == len(wanted)] = 0
        found.append(wanted[place] == array if len(wanted) else np.zeros(len(array), bool))
    return np.concatenate(found)


def fetch(piece: Piece, seqs: np.ndarray, only: Sequence[int], columns: Sequence[str]) -> pa.Table | None:
    """Return the rows of a piece whose `seq` is among `seqs`, ascending, of its batches `only`."""
    found = []
    for batch in piece.all_batches(only):
        hit = np.flatnonzero(among(batch[SEQ], seqs))
        if len(hit):
            there = [name for name in columns if name in batch.schema.names]
            found.append(pa.Table.from_batches([batch]).select([*there, SEQ]).take(pa.array(hit)))
    return pa.concat_tables(found) if found else None
