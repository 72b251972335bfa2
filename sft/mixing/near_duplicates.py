"""Near-duplicates: rows whose runs of three words are nearly the same as those of a row that is preferred.

Candidates come from MinHash signatures that agree in a band; each is then compared exactly, so chance can let
a near-duplicate stay (1 in 1,000 at the threshold, fewer above it) but never removes a row that is none.

A row is compared with those before it that stay, in the order of preference. What stays depends on rows of
the same component only: rows joined by bands in which they agree. So components are compared apart, many at
once, and in memory is what each row's place takes; all else is in files.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from sft.mixing import word_ngrams
from sft.mixing.candidates import Candidates, compare, save
from sft.mixing.minhash import SHINGLE, Signed, banding, shared, sign

# What has the signature of Workers.map: it calls a function on each item, in processes or here.
Map = Callable[[Callable, Sequence], Iterator]
# Rows of components that are compared by one call.
_GROUP = 32_768
_TEXTS = ("id", "part", "source", "match")
_FOUND = pa.schema([*((name, pa.string()) for name in _TEXTS), ("similarity", pa.float64())])


class Shard(Protocol):
    """Rows with the columns messages, id, part ("base" or "extra"), source and rank (uint64)."""

    def read(self) -> pa.Table:
        """Return the rows."""
        ...


def near_duplicates(messages: pa.ChunkedArray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the earlier row that it nearly repeats (-1: none) and their Jaccard similarity.

    For rows that are all at hand, in the order in which they are preferred.
    """
    rows = len(messages)
    columns = {
        "messages": messages,
        "id": [f"{row:012}" for row in range(rows)],
        "rank": np.arange(rows, dtype=np.uint64),
        "part": pa.repeat("base", rows),
        "source": pa.repeat("", rows),
    }
    with tempfile.TemporaryDirectory() as folder:
        found = find([Rows(pa.table(columns))], [np.arange(rows)], threshold, map, Path(folder))[0]
    match, similarity = np.full(rows, -1), np.zeros(rows)
    gone = np.array(found["id"].to_pylist(), np.int64)
    match[gone] = np.array(found["match"].to_pylist(), np.int64)
    similarity[gone] = found["similarity"].to_numpy()
    return match, similarity


@dataclass
class Rows:
    """A shard that is in memory."""

    table: pa.Table

    def read(self) -> pa.Table:
        """Return the rows."""
        return self.table


@dataclass
class _Sketch:
    """What is kept of a shard: its signatures, and the ranks of these rows; a file has the names of them."""

    signed: Signed
    rank: np.ndarray
    extra: np.ndarray
    names: Path

    def take(self, rows: np.ndarray) -> pa.Table:
        """Return the ids, parts and sources of rows, by their numbers among those signed."""
        with pa.memory_map(str(self.names)) as file:
            return pa.ipc.open_file(file).read_all().take(pa.array(rows))


def find(
    shards: Sequence[Shard], kept: Sequence[np.ndarray | None], threshold: float, map: Map, folder: Path
) -> list[pa.Table]:
    """Return of each shard the rows that nearly repeat one that stays, and what they repeat: _FOUND.

    Looked at are the rows that are `kept`, by their numbers, or all. They are preferred in the order of part
    (base first), rank and id. `folder` is for files that need not stay, and is the same for all who work.
    """
    numbered = list(zip(range(len(shards)), shards, kept, strict=True))
    sketches: list[_Sketch] = list(map(partial(_sketch, threshold=threshold, folder=folder), numbered))
    starts = np.concatenate([[0], np.cumsum([len(sketch.rank) for sketch in sketches])])
    signed = [sketch.signed for sketch in sketches]
    bands = list(map(partial(_band, signed=signed, folder=folder), range(banding(threshold)[0])))
    candidates = np.zeros(starts[-1], bool)
    for path in bands:
        candidates[np.load(path)[0]] = True
    rows = np.flatnonzero(candidates)
    nothing = [_FOUND.empty_table()] * len(shards)
    if not len(rows):
        return nothing
    groups = _groups(rows, _places(sketches), _components(rows, starts[-1], bands), folder)
    bounds = np.searchsorted(rows, starts)
    parts = [
        (number, shards[number], signed[number], rows[first:last] - starts[number])
        for number, (first, last) in enumerate(pairwise(bounds))
    ]
    files: list[Candidates] = list(map(partial(_shingled, folder=folder), parts))
    pairs = list(map(partial(compare, files=files, threshold=threshold, folder=folder), groups))
    row, match, similarity = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return _named(rows[row], rows[match], similarity, sketches, starts)


def _sketch(item: tuple[int, Shard, np.ndarray | None], threshold: float, folder: Path) -> _Sketch:
    number, shard, kept = item
    table = shard.read()
    kept = np.arange(len(table), dtype=np.int32) if kept is None else kept
    signed = sign(_messages(table, kept), threshold, folder / f"{number}")
    signed.rows = kept[signed.rows]
    table = table.select(["id", "part", "source", "rank"]).take(pa.array(signed.rows))
    names = folder / f"{number}.names"
    with pa.OSFile(str(names), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    extra = table["part"].to_numpy() != "base"
    return _Sketch(signed, table["rank"].to_numpy(), extra, names)


def _messages(table: pa.Table, rows: np.ndarray) -> pa.ChunkedArray:
    return table["messages"] if len(rows) == len(table) else table["messages"].take(pa.array(rows))


def _band(band: int, signed: list[Signed], folder: Path) -> Path:
    path = folder / f"band{band}.npy"
    save(path, np.stack(shared(band, signed)))
    return path


def _places(sketches: list[_Sketch]) -> np.ndarray:
    """Return the place of each row in the order of preference."""
    rank = np.concatenate([sketch.rank for sketch in sketches])
    extra = np.concatenate([sketch.extra for sketch in sketches])
    order = np.lexsort((rank, extra))
    equal = (np.diff(rank[order]) == 0) & (np.diff(extra[order].view(np.int8)) == 0)
    if equal.any():  # by chance almost never, so ids are read for these rows only
        at = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
        starts = np.concatenate([[0], np.cumsum([len(sketch.rank) for sketch in sketches])])
        tied = np.sort(order[at])
        ids = _take(tied, sketches, starts)["id"].to_numpy()
        order[at] = tied[np.lexsort((ids.astype(str), rank[tied], extra[tied]))]
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _components(rows: np.ndarray, size: int, bands: list[Path]) -> np.ndarray:
    """Return the number of the component that each of the candidates is in."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    number = np.full(size, -1, np.int32)
    number[rows] = np.arange(len(rows))
    label = np.arange(len(rows), dtype=np.int32)
    for path in bands:
        row, bucket = np.load(path)
        # A bucket's rows are linked one to the next.
        linked = np.flatnonzero(bucket[1:] == bucket[:-1])
        ends = label[number[row[linked]]], label[number[row[linked + 1]]]
        graph = sparse.coo_array((np.ones(len(linked), bool), ends), shape=(len(rows), len(rows)))
        label = connected_components(graph, directed=False)[1][label]
    return label


def _groups(rows: np.ndarray, places: np.ndarray, component: np.ndarray, folder: Path) -> list[Path]:
    """Write files of candidates, by number, whose components are whole: in the order of preference."""
    sizes = np.bincount(component)
    group = ((np.cumsum(sizes) - 1) // _GROUP)[component]
    order = np.lexsort((places[rows], group))
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    paths = []
    for number, members in enumerate(np.split(order, bounds)):
        paths.append(folder / f"group{number}.npy")
        save(paths[-1], members)
    return paths


def _shingled(item: tuple[int, Shard, Signed, np.ndarray], folder: Path) -> Candidates:
    """Write what comparing takes of a shard's candidates, given by their numbers among those signed."""
    number, shard, signed, rows = item
    sizes = [np.zeros(0, np.int64)]
    path = folder / f"{number}.shingles"
    with path.open("wb") as file:
        for batch in word_ngrams.of(_messages(shard.read(), signed.rows[rows])) if len(rows) else ():
            grams = batch.grams(SHINGLE)
            bounds = np.searchsorted(grams.row, np.arange(len(batch) + 1))
            hashes = [np.unique(grams.hashes[first:last]) for first, last in pairwise(bounds)]
            file.write(np.concatenate(hashes).data)
            sizes.append(np.array([len(of) for of in hashes]))
    return Candidates.write(
        folder / f"{number}", signed.read_slots()[rows], signed.read_bands()[:, rows].T, np.concatenate(sizes)
    )


def _take(rows: np.ndarray, sketches: list[_Sketch], starts: np.ndarray) -> pa.Table:
    """Return the names of rows, numbered through all shards and ascending."""
    bounds = np.searchsorted(rows, starts)
    return pa.concat_tables(
        sketch.take(rows[first:last] - start)
        for sketch, start, first, last in zip(sketches, starts[:-1], bounds[:-1], bounds[1:], strict=True)
    )


def _named(
    rows: np.ndarray, matches: np.ndarray, similarity: np.ndarray, sketches: list[_Sketch], starts: np.ndarray
) -> list[pa.Table]:
    order = np.argsort(rows)
    rows, matches, similarity = rows[order], matches[order], similarity[order]
    different, number = np.unique(matches, return_inverse=True)
    table = _take(rows, sketches, starts).drop_columns("rank")
    ids = _take(different, sketches, starts)["id"].take(pa.array(number))
    table = table.append_column("match", ids).append_column("similarity", pa.array(similarity)).cast(_FOUND)
    bounds = np.searchsorted(rows, starts)
    return [table.slice(a, b - a) for a, b in pairwise(bounds)]
