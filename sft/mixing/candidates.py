"""Comparing candidates for near-duplicates exactly, in the order of preference, by what is in files."""

import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from sft.mixing.minhash import PERMUTATIONS, banding

# After so many rows what was read of files leaves this process: the system keeps what it has room for.
# Linux maps 64 KB around what is read.
_BLOCK = 1_024


@dataclass
class Candidates:
    """The candidates of a shard: in files the slots, the bands' hashes and the shingles of each.

    Row r has the shingles `bounds[r]:bounds[r + 1]` of the file, ascending.
    """

    path: Path
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @classmethod
    def write(cls, path: Path, slots: np.ndarray, bands: np.ndarray, shingles: np.ndarray) -> "Candidates":
        """Write slots and bands, a row each; of shingles, which are in a file, each row has so many."""
        Path(f"{path}.slots").write_bytes(np.ascontiguousarray(slots).data)
        Path(f"{path}.bands").write_bytes(np.ascontiguousarray(bands).data)
        return cls(path, np.concatenate([[0], np.cumsum(shingles)]))


class _Mapped:
    """An array in a file, in memory as far as it is used; without a path in a file of its own in `folder`."""

    def __init__(
        self, shape: tuple[int, ...], dtype: type, path: Path | None = None, folder: Path | None = None
    ) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with path.open("r+b") if path else tempfile.TemporaryFile(dir=folder) as file:
            if path is None:
                _reserve(file.fileno(), size)
            self._map = mmap.mmap(file.fileno(), size) if size else None
        self.values: np.ndarray = np.frombuffer(self._map or b"", dtype).reshape(shape)

    def forget(self) -> None:
        """Take what was read out of memory."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)


def save(path: Path, array: np.ndarray) -> None:
    """Write an array as numpy does, but by Arrow's file: numpy's own hides that the disk is full."""
    with pa.OSFile(str(path), "wb") as file:
        np.save(file, array)


def _reserve(file: int, size: int) -> None:
    """Make a file of this size. A full disk is an OSError here, but ends a process that writes to the map."""
    if size and sys.platform == "linux":
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


class _Group:
    """The rows of whole components, in the order of preference: `slots`, `shingles`, and their `buckets`.

    A bucket is what rows are in that agree in a band, as a number; -1 where no other row is in it.
    """

    def __init__(self, members: np.ndarray, files: Sequence[Candidates], bands: int, folder: Path) -> None:
        starts = np.concatenate([[0], np.cumsum([len(of) for of in files])])
        rows = len(members)
        self.file = np.searchsorted(starts, members, side="right") - 1
        self.bounds = np.zeros((rows, 2), np.int64)
        self.slots = _Mapped((rows, PERMUTATIONS), np.uint8, folder=folder)
        self.buckets = _Mapped((rows, bands), np.int64, folder=folder)
        self.of_files = [
            _Mapped((int(of.bounds[-1]),), np.uint64, Path(f"{of.path}.shingles")) for of in files
        ]
        for place, of in enumerate(files):
            here = np.flatnonzero(self.file == place)
            if not len(here):
                continue
            at = members[here] - starts[place]
            self.bounds[here] = np.stack([of.bounds[at], of.bounds[at + 1]], axis=1)
            for mapped, name in ((self.slots, "slots"), (self.buckets, "bands")):
                shape = (len(of), mapped.values.shape[1])
                source = _Mapped(shape, mapped.values.dtype.type, Path(f"{of.path}.{name}"))
                mapped.values[here] = source.values[at]
                mapped.forget()
        self.used = 0
        for band in range(bands):
            _, number, size = np.unique(self.buckets.values[:, band], return_inverse=True, return_counts=True)
            again = size > 1
            numbers = np.where(again, np.cumsum(again) - 1 + self.used, -1)
            self.buckets.values[:, band] = numbers[number]
            self.used += int(again.sum())
            self.forget()

    def shingles(self, row: int) -> np.ndarray:
        first, last = self.bounds[row]
        return self.of_files[self.file[row]].values[first:last]

    def forget(self) -> None:
        for mapped in (self.slots, self.buckets, *self.of_files):
            mapped.forget()


def compare(
    path: Path, files: Sequence[Candidates], threshold: float, folder: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the candidates that are as like as `threshold` to one that stays, this one, and how like.

    `path` has the numbers of the candidates, in the order of preference, through all of `files`. Of several
    that a row is like it gets the first.
    """
    members = np.load(path)
    bands, _ = banding(threshold)
    group = _Group(members, files, bands, folder)
    slots, buckets = group.slots.values, group.buckets.values
    # Four standard deviations of the estimate below the threshold: what is less alike is not compared.
    least = threshold - 4 * (threshold * (1 - threshold) / PERMUTATIONS) ** 0.5
    # The last row of each bucket that stays, and of each such row the one before it in each of its buckets.
    last = np.full(group.used, -1, np.int32)
    before = _Mapped((len(members), bands), np.int32, folder=folder)
    found = []
    for row in range(len(members)):
        if row % _BLOCK == 0:
            group.forget()
            before.forget()
        mine = np.flatnonzero(buckets[row] >= 0)
        lasts = last[buckets[row, mine]]
        others = np.array(_chained(mine, lasts, before.values), np.int64)
        if len(others):
            others = others[(slots[others] == slots[row]).mean(axis=1) >= least]
        own = group.shingles(row)
        for other in others.tolist():
            alike = _jaccard(own, group.shingles(other))
            if alike >= threshold:
                found.append((members[row], members[other], alike))
                break
        else:
            before.values[row, mine] = lasts
            last[buckets[row, mine]] = row
    gone, match, similarity = zip(*found, strict=True) if found else ((), (), ())
    return np.array(gone, np.int64), np.array(match, np.int64), np.array(similarity, np.float64)


def _chained(bands: np.ndarray, lasts: np.ndarray, before: np.ndarray) -> list[int]:
    """Return the rows that stay and share a bucket, ascending: those that lead back from `lasts`."""
    found = set()
    for band, row in zip(bands.tolist(), lasts.tolist(), strict=True):
        while row >= 0:
            found.add(row)
            row = int(before[row, band])
    return sorted(found)


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    place = np.searchsorted(other, one)
    place[place == len(other)] = 0
    common = np.count_nonzero(other[place] == one)
    return common / (len(one) + len(other) - common)
