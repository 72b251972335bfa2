"""The rows that a mix is chosen from: ranked by seeded hash, without exact duplicates and overlap.

Rows come in shards by id, so all copies of a row are in one shard. Of each row some 16 bytes stay in memory.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.files import read_parquet
from sft.core.seeded_order import ranks
from sft.mixing.removal import REMOVED


@dataclass
class Rows:
    """Rows of one file that are in the pool: their numbers in it, ascending, seeded ranks and kinds.

    A kind is a number in `kinds`, which names all that the file has.
    """

    path: Path
    number: np.ndarray
    rank: np.ndarray
    kind: np.ndarray
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.number)

    def take(self, which: np.ndarray) -> "Rows":
        """Return some of the rows, by a mask."""
        return Rows(self.path, self.number[which], self.rank[which], self.kind[which], self.kinds)

    def by_kind(self) -> Counter[str]:
        """Count the rows by kind; kinds without any are there with 0."""
        counts = np.bincount(self.kind, minlength=len(self.kinds)).tolist()
        return Counter(dict(zip(self.kinds, counts, strict=True)))


@dataclass
class Shard:
    """The rows of base and of extra whose ids begin alike, and those that were removed (REMOVED)."""

    base: Rows
    extra: Rows
    removed: pa.Table
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Files:
    """The files of a shard."""

    base: Path
    extra: Path


def rank_shard(files: Files, seed: int, keep_overlap: bool) -> Shard:
    """Remove exact duplicates, and rows of extra that base has, and rank what is left by hash(seed, id).

    With `keep_overlap` the rows that base has stay in extra, to see what they do.
    """
    columns = ["id", "source", "kind"]
    base, extra = read_parquet(files.base, columns), read_parquet(files.extra, columns)
    base_copy, extra_copy = _copies(base["id"]), _copies(extra["id"])
    overlap = np.asarray(pc.is_in(extra["id"], value_set=base["id"].combine_chunks())) & ~extra_copy
    removed = [
        _removed(base, base_copy, "base", "base_duplicates"),
        _removed(extra, extra_copy, "extra", "extra_duplicates"),
    ]
    counts = Counter(
        base_duplicates=int(base_copy.sum()),
        extra_duplicates=int(extra_copy.sum()),
        extra_in_base=0 if keep_overlap else int(overlap.sum()),
    )
    gone = extra_copy
    if not keep_overlap:
        removed.append(_removed(extra, overlap, "extra", "extra_in_base"))
        gone = extra_copy | overlap
    return Shard(
        _ranked(files.base, base, ~base_copy, seed),
        _ranked(files.extra, extra, ~gone, seed),
        pa.concat_tables(removed),
        counts,
    )


def _copies(ids: pa.ChunkedArray) -> np.ndarray:
    """Mark each row that has the id of the row before it: rows are in the order of ids."""
    copy = np.zeros(len(ids), bool)
    if len(ids) > 1:
        copy[1:] = np.asarray(pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    return copy


def _ranked(path: Path, rows: pa.Table, stay: np.ndarray, seed: int) -> Rows:
    ids = rows["id"].filter(pa.array(stay))
    kinds = rows["kind"].combine_chunks().dictionary_encode()
    codes = kinds.indices.to_numpy().astype(np.int32)[stay]
    number = np.flatnonzero(stay).astype(np.int32)
    return Rows(path, number, ranks(seed, ids), codes, kinds.dictionary.to_pylist())


_REASONS = {
    "base_duplicates": "the same text is in the sources more than once",
    "extra_duplicates": "the same text is in the sources more than once",
    "extra_in_base": "base has the same text",
}


def _removed(rows: pa.Table, gone: np.ndarray, part: str, name: str) -> pa.Table:
    """List rows as removed; each matches the one row of its id."""
    ids, sources = (rows[column].filter(pa.array(gone)) for column in ("id", "source"))
    said = [pa.repeat(pa.scalar(text, pa.string()), len(ids)) for text in (part, name, _REASONS[name])]
    return pa.table([ids, said[0], sources, said[1], said[2], ids], schema=REMOVED)
