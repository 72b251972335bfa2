"""Near-duplicates: rows whose runs of three words are nearly the same as an earlier row's.

Candidates come from MinHash signatures that agree in a band (locality-sensitive hashing); each is then
compared exactly, so chance can let a near-duplicate stay (1 in 1,000 at the threshold, fewer above it) but
never removes a row that is none.
"""

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


def near_duplicates(messages: pa.ChunkedArray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the earlier row that it nearly repeats (-1: none) and their Jaccard similarity.

    Rows come in the order in which they are preferred. One is compared with those before it that stay, so
    every removed row has a row that stays and is as similar as `threshold`: there are no chains.
    """
    slots, buckets = _signatures(messages, banding(threshold))
    candidates = np.flatnonzero((buckets >= 0).any(axis=1))
    match, similarity = np.full(len(buckets), -1), np.zeros(len(buckets))
    # Four standard deviations of the estimate below the threshold: what is less alike is not compared.
    least = threshold - 4 * (threshold * (1 - threshold) / PERMUTATIONS) ** 0.5
    kept: dict[int, list[int]] = {}  # the rows that stay, by bucket
    shingles: dict[int, np.ndarray] = {}  # of these rows
    at = 0
    for batch in word_ngrams.of(messages.take(pa.array(candidates))):
        grams = batch.grams(SHINGLE)
        bounds = np.searchsorted(grams.row, np.arange(len(batch) + 1))
        for place in range(len(batch)):
            row = int(candidates[at + place])
            own = np.unique(grams.hashes[bounds[place] : bounds[place + 1]])
            mine = [bucket for bucket in buckets[row].tolist() if bucket >= 0]
            others = np.array(sorted({other for bucket in mine for other in kept.get(bucket, ())}), np.int64)
            if len(others):
                others = others[(slots[others] == slots[row]).mean(axis=1) >= least]
            for other in others.tolist():
                common = len(np.intersect1d(own, shingles[other], assume_unique=True))
                jaccard = common / (len(own) + len(shingles[other]) - common)
                if jaccard >= threshold:
                    match[row], similarity[row] = other, jaccard
                    break
            else:
                shingles[row] = own
                for bucket in mine:
                    kept.setdefault(bucket, []).append(row)
        at += len(batch)
    return match, similarity


def _signatures(messages: pa.ChunkedArray, bands_and_width: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the last byte of each row's signature slots, and its bucket in each band, as numbers.

    -1 stands for a bucket that no other row is in.
    """
    from rensa import RMinHash

    bands, width = bands_and_width
    factors = np.random.default_rng(SEED).integers(0, 2**63, width, np.uint64) * np.uint64(2) + np.uint64(1)
    slots, keys = [np.zeros((0, PERMUTATIONS), np.uint8)], [np.zeros((0, bands), np.uint64)]
    wordless = [np.zeros(0, bool)]
    for batch in word_ngrams.of(messages):
        grams = batch.grams(SHINGLE)
        bounds = np.searchsorted(grams.row, np.arange(len(batch) + 1)).astype(np.uint64)
        signed = RMinHash.digest_matrix_from_flat_token_hashes(grams.hashes, bounds, PERMUTATIONS, SEED)
        matrix = np.array(signed.to_rows(), np.uint32)
        slots.append(matrix.astype(np.uint8))
        banded = matrix[:, : bands * width].reshape(-1, bands, width)
        keys.append((banded * factors).sum(axis=2, dtype=np.uint64))
        wordless.append(batch.counts == 0)
    key, empty = np.concatenate(keys), np.concatenate(wordless)
    buckets = np.full(key.shape, -1, np.int64)
    used = 0
    for band in range(bands):
        _, number, size = np.unique(key[:, band], return_inverse=True, return_counts=True)
        buckets[:, band] = np.where((size[number] > 1) & ~empty, number + used, -1)
        used += len(size)
    return np.concatenate(slots), buckets
