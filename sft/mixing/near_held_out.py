"""Training rows that nearly repeat a row that is held out, by the runs of three words that both have.

The measure is that of the filter near_duplicates, Jaccard similarity of sets of word triples, here compared
exactly: what is held out is little, so an index of its triples takes the place of MinHash. Of rows made by
a template most triples are the template's, and all rows would be near each other; so the triples that only
few rows have must be as similar as all of them. A text that is copied into many rows passes for a template.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sft.mixing import word_ngrams

THRESHOLD = 0.8
SHINGLE = 3
# A triple is common in this share of the rows, but never in fewer than COMMON_ROWS.
COMMON, COMMON_ROWS = 0.01, 10
_ODD = np.uint64(0x9E3779B97F4A7C15)


def near_held_out(messages: pa.ChunkedArray, held: pa.ChunkedArray) -> np.ndarray:
    """Return for each conversation the number of the held-out one that it nearly repeats; -1: none.

    Of several the most similar one, of equally similar ones the first.
    """
    nearest = np.full(len(messages), -1)
    index = _Index.of(held)
    if not len(index.distinct) or not len(messages):
        return nearest
    found = _Found.of(messages, index)
    limit = max(COMMON_ROWS, COMMON * len(messages))
    common = (found.rows_of_triple > limit) | (index.times > limit)

    # Pairs of a row and a held-out row, as often as they share a triple that is not common.
    own = ~common[found.triple]
    times = index.times[found.triple[own]]
    nth = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    owner = index.owner[np.repeat(index.first[found.triple[own]], times) + nth]
    pair, shared = np.unique(np.repeat(found.row[own], times) * len(held) + owner, return_counts=True)
    at, other = pair // len(held), pair % len(held)

    held_size = np.bincount(index.owner, minlength=len(held))
    held_own = held_size - np.bincount(index.owner, common[index.triple], len(held))
    row_own = found.size - np.bincount(found.row, ~own, len(found.size))
    similar = shared >= THRESHOLD * (row_own[at] + held_own[other] - shared)

    bounds = np.searchsorted(found.row, np.arange(len(messages) + 1))
    by_owner = np.argsort(index.owner, kind="stable")
    triples = np.split(index.triple[by_owner], np.cumsum(held_size)[:-1])
    best = np.zeros(len(messages))
    for this, that in zip(at[similar].tolist(), other[similar].tolist(), strict=True):
        mine = found.triple[bounds[this] : bounds[this + 1]]
        both = len(np.intersect1d(mine, triples[that], assume_unique=True))
        jaccard = both / (found.size[this] + held_size[that] - both)
        if jaccard >= THRESHOLD and jaccard > best[this]:
            best[this], nearest[this] = jaccard, that
    return nearest


@dataclass
class _Index:
    """The triples of held-out rows, each once a row: the row that has it, and its number among `distinct`.

    They are sorted by hash: triple t has the places from `first[t]` on, `times[t]` of them.
    """

    owner: np.ndarray
    triple: np.ndarray
    distinct: np.ndarray
    first: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, held: pa.ChunkedArray) -> "_Index":
        hashes, owners, start = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
        for batch in word_ngrams.of(held):
            grams = batch.grams(SHINGLE)
            hashes.append(grams.hashes)
            owners.append(grams.row + start)
            start += len(batch)
        triples, owner = np.concatenate(hashes), np.concatenate(owners)
        order = np.lexsort((owner, triples))
        triples, owner = triples[order], owner[order]
        once = np.ones(len(owner), bool)
        once[1:] = (triples[1:] != triples[:-1]) | (owner[1:] != owner[:-1])
        distinct, first, triple, times = np.unique(
            triples[once], return_index=True, return_inverse=True, return_counts=True
        )
        return cls(owner[once], triple, distinct, first, times)


@dataclass
class _Found:
    """Held-out triples in rows, each once a row, sorted by row, and each row's number of different triples.

    Rows of which less than half is held-out triples have none here, but `rows_of_triple` counts all rows.
    """

    row: np.ndarray
    triple: np.ndarray
    size: np.ndarray
    rows_of_triple: np.ndarray

    @classmethod
    def of(cls, messages: pa.ChunkedArray, index: _Index) -> "_Found":
        count = len(index.distinct)
        rows, triples, sizes, start = [], [], [], 0
        rows_of_triple = np.zeros(count, np.int64)
        for batch in word_ngrams.of(messages):
            grams = batch.grams(SHINGLE)
            place = np.minimum(np.searchsorted(index.distinct, grams.hashes), count - 1)
            known = index.distinct[place] == grams.hashes
            once = np.unique(grams.row[known] * count + place[known])
            rows_of_triple += np.bincount(once % count, minlength=count)
            held = np.bincount(grams.row, known, len(batch))
            enough = (held > 0) & (2 * held >= np.bincount(grams.row, minlength=len(batch)))
            once = once[enough[once // count]]
            rows.append(once // count + start)
            triples.append(once % count)
            of_these = enough[grams.row]
            # A row's triples apart from another's: by an odd factor, so that no two of a row fall together.
            key = grams.hashes[of_these] + grams.row[of_these].astype(np.uint64) * _ODD
            _, at = np.unique(key, return_index=True)
            sizes.append(np.bincount(grams.row[of_these][at], minlength=len(batch)))
            start += len(batch)
        return cls(np.concatenate(rows), np.concatenate(triples), np.concatenate(sizes), rows_of_triple)
