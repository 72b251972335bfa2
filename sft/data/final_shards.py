"""The standardized rows that stay, from pieces to shards: without what is held out, in the order of ids.

A shard is read, compared, sorted and written by one process, and no other rows are in its memory.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from sft.core import shards
from sft.core.errors import UserError
from sft.core.row_schema import HOLDOUT_ONLY
from sft.core.workers import Workers
from sft.data.evaluation_pool import CHOICES
from sft.data.staging import SEQ, Piece, among, rows_of_shard, text_of

# Of how many rows, roughly, it is counted how often they have what held-out rows have; ids are hashes, so the
# first shards are as good as any.
COUNTED = 1 << 17
# Bytes that a column of one shard can hold: its offsets have 32 bits. Only copies of a row come to so many.
MOST = (1 << 31) - 1


class Near(Protocol):
    """Which rows nearly repeat a held-out one (-1: none), and of which held-out rows have most."""

    nearest: np.ndarray
    covered: np.ndarray


class HeldOut(Protocol):
    """Held-out rows, to compare others with."""

    def count(self, messages: pa.ChunkedArray) -> np.ndarray:
        """Count of each thing that is compared in how many conversations it is."""
        ...

    def near(self, messages: pa.ChunkedArray, counts: np.ndarray, rows: int) -> Near:
        """Compare conversations, given these counts over so many rows."""
        ...


@dataclass(frozen=True)
class Wanted:
    """Rows of base, or of extra: the pieces that have them, their columns, and the `seq` of those that go.

    `out` is ascending. `near` compares conversations with the held-out ones.
    """

    folder: Path
    pieces: tuple[Piece, ...]
    schema: pa.Schema
    out: np.ndarray
    near: Callable[[pa.ChunkedArray], Near] | None = None


@dataclass
class Written:
    """The rows that were written, those left out as near to a held-out one by source, and those `covered`."""

    rows: int = 0
    near: Counter[str] = field(default_factory=Counter)
    covered: int = 0

    def __add__(self, other: "Written") -> "Written":
        return Written(self.rows + other.rows, self.near + other.near, self.covered + other.covered)


def write(
    wanted: Sequence[Wanted], alone: Sequence[int], held: HeldOut, bits: int, workers: Workers
) -> list[Written]:
    """Write 2^bits shards of each of the folders; `alone` counts the rows that are items of their own.

    Only those are compared with the held-out ones: where a reader knows what a row is made from, all forms of
    what is held out are gone already, and what is alike is another item.
    """
    compared = []
    for one, rows in zip(wanted, alone, strict=True):
        if rows:
            some = range(max(1, min(1 << bits, COUNTED * (1 << bits) // rows)))
            counted = list(workers.map(partial(_count, wanted=one, bits=bits, held=held), some))
            counts = np.sum([counts for _, counts in counted], axis=0)
            of_rows = sum(rows for rows, _ in counted)
            one = replace(one, near=partial(held.near, counts=counts, rows=of_rows))
        compared.append(one)
    total = [Written() for _ in wanted]
    with ExitStack() as stack:
        compared = [
            replace(one, folder=stack.enter_context(shards.replacing(one.folder))) for one in compared
        ]
        results = workers.map(partial(_write_all, wanted=compared, bits=bits), range(1 << bits))
        for of_shard in tqdm(results, total=1 << bits, desc="writing", unit="shard", delay=2, leave=False):
            total = [before + new for before, new in zip(total, of_shard, strict=True)]
    return total


def _count(number: int, wanted: Wanted, bits: int, held: HeldOut) -> tuple[int, np.ndarray]:
    rows, stay = _rows(number, wanted, bits)
    stay &= _alone(rows)
    return int(stay.sum()), held.count(_under(rows["messages"], stay).combine_chunks())


def _write_all(number: int, wanted: Sequence[Wanted], bits: int) -> list[Written]:
    return [_write(number, one, bits) for one in wanted]


def _write(number: int, wanted: Wanted, bits: int) -> Written:
    rows, stay = _rows(number, wanted, bits)
    # First of all: the rows are then one behind another, where before each piece had some.
    order = shards.by_id(rows["id"], rows[SEQ].to_numpy())
    rows = rows.take(pa.array(order[stay[order]])).combine_chunks()
    written = Written()
    if wanted.near is not None and len(rows):
        alone = _alone(rows)
        found = wanted.near(_under(rows["messages"], alone))
        near = np.flatnonzero(alone)[found.nearest >= 0]
        written.covered = int(found.covered.sum())
        written.near.update(rows["source"].take(pa.array(near)).to_pylist())
        if len(near):
            stay = np.ones(len(rows), bool)
            stay[near] = False
            rows = rows.filter(pa.array(stay))
    written.rows = len(rows)
    unwanted = [name for name in (*HOLDOUT_ONLY, CHOICES, SEQ) if name in rows.column_names]
    shards.write(shards.path_of(wanted.folder, number), rows.drop_columns(unwanted))
    return written


def _alone(rows: pa.Table) -> np.ndarray:
    """Mark the rows that are items of their own."""
    return np.asarray(pc.equal(rows["id"], rows["item"]))


def _under(column: pa.ChunkedArray, mask: np.ndarray) -> pa.ChunkedArray:
    """Return the values under a mask, without a copy where that is all of them."""
    return column if mask.all() else column.filter(pa.array(mask))


def _too_many_copies(rows: pa.Table) -> UserError:
    counted = rows.group_by(["id", "source"]).aggregate([([], "count_all")]).sort_by("count_all")
    row = counted.slice(len(counted) - 1).to_pylist()[0]
    return UserError(
        f"{row['source']}: {row['count_all']:,} copies of one row, of the id {row['id']}: more text than one "
        "file can hold. The mix takes a row once, so leave the copies out."
    )


def _rows(number: int, wanted: Wanted, bits: int) -> tuple[pa.Table, np.ndarray]:
    """Read the rows of a shard, and mark those that are not out.

    Raises UserError where those do not fit one column; all rows together may not either.
    """
    rows = rows_of_shard(wanted.pieces, wanted.schema, number, bits)
    stay = ~among(rows[SEQ], wanted.out)
    if text_of(rows) > MOST:
        rows = rows.filter(pa.array(stay))
        stay = np.ones(len(rows), bool)
        if text_of(rows) > MOST:
            raise _too_many_copies(rows)
    return rows, stay
