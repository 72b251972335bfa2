"""MinHash signatures of rows, in files, and which rows agree in a band of them (locality-sensitive hashing).

Rows that agree in a band are candidates: they may be alike. A row's signature is 256 slots; of each the last
byte is kept, to estimate how alike two rows are, and of each band a hash.

rensa computes the signatures. Its index, as datasketch's and text-dedup's, holds all rows in memory and
answers in the order of arrival, so the bands are sorted here, one at a time; datatrove does the same on disk,
but joins chains of pairs into clusters, of which one row stays, though it may be like none that goes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from sft.mixing import word_ngrams

SHINGLE = 3
PERMUTATIONS = 256
SEED = 42
MISSED = 0.001


def banding(threshold: float) -> tuple[int, int]:
    """Return how many bands of how many signature slots find a pair of this similarity.

    A pair of similarity s agrees in a band of w slots with probability s^w, so it is missed with
    (1 - s^w)^bands. The widest band that misses no more than MISSED gives the fewest false candidates.
    """
    for width in range(PERMUTATIONS, 1, -1):
        bands = PERMUTATIONS // width
        if (1 - threshold**width) ** bands <= MISSED:
            return bands, width
    return PERMUTATIONS, 1


@dataclass
class Signed:
    """Which rows of a shard have words, and so a signature; a file each has the slots and the bands' hashes.

    Slots are a row of bytes for each row of the shard, hashes (uint64) a row for each band.
    """

    rows: np.ndarray
    slots: Path
    bands: Path

    def read_slots(self) -> np.ndarray:
        """Return the slots: rows x PERMUTATIONS."""
        return np.fromfile(self.slots, np.uint8).reshape(len(self.rows), PERMUTATIONS)

    def read_bands(self) -> np.ndarray:
        """Return the bands' hashes: bands x rows."""
        return np.fromfile(self.bands, np.uint64).reshape(-1, max(1, len(self.rows)))[:, : len(self.rows)]

    def read_band(self, band: int) -> np.ndarray:
        """Return one band's hash of each row."""
        count = len(self.rows)
        return np.fromfile(self.bands, np.uint64, count, offset=8 * band * count)


def sign(messages: pa.ChunkedArray, threshold: float, path: Path) -> Signed:
    """Write the signatures of a shard's conversations to files that begin with `path`."""
    from rensa import RMinHash

    bands, width = banding(threshold)
    factors = np.random.default_rng(SEED).integers(0, 2**63, width, np.uint64) * np.uint64(2) + np.uint64(1)
    keys, rows = [np.zeros((0, bands), np.uint64)], [np.zeros(0, np.int32)]
    start = 0
    signed = Signed(np.zeros(0, np.int32), Path(f"{path}.slots"), Path(f"{path}.bands"))
    with signed.slots.open("wb") as file:
        for batch in word_ngrams.of(messages):
            grams = batch.grams(SHINGLE)
            worded = np.flatnonzero(batch.counts)
            bounds = np.searchsorted(grams.row, np.append(worded, len(batch))).astype(np.uint64)
            found = RMinHash.digest_matrix_from_flat_token_hashes(grams.hashes, bounds, PERMUTATIONS, SEED)
            matrix = np.array(found.to_rows(), np.uint32).reshape(len(worded), PERMUTATIONS)
            file.write(matrix.astype(np.uint8).data)  # not tofile, which hides that the disk is full
            banded = matrix[:, : bands * width].reshape(-1, bands, width)
            keys.append(banded.astype(np.uint64) @ factors)
            rows.append((worded + start).astype(np.int32))
            start += len(batch)
    signed.rows = np.concatenate(rows)
    signed.bands.write_bytes(np.ascontiguousarray(np.concatenate(keys).T).data)
    return signed


def shared(band: int, signed: list[Signed]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that agree with others in a band, and the bucket of each, in the order of buckets.

    Rows are numbered through all shards.
    """
    keys = np.concatenate([np.zeros(0, np.uint64), *(of.read_band(band) for of in signed)])
    ordered = np.sort(keys)  # of the hashes alone: some ten times as fast as a sort of the rows
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(again):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    bucket = np.searchsorted(again, keys)
    bucket[bucket == len(again)] = 0
    rows = np.flatnonzero(again[bucket] == keys)
    rows = rows[np.argsort(bucket[rows], kind="stable")]
    return rows, bucket[rows]
