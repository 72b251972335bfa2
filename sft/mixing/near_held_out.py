"""Training rows that nearly repeat a row that is held out, by the runs of three words that both have.

The measure is that of the filter near_duplicates, Jaccard similarity of sets of word triples, here computed
exactly. Of rows made by a template most triples are the template's, and all rows would be near each other; so
the triples that only few rows have must be as similar as all of them. The price: a text that is copied into
many rows passes for a template.

Pairs are found by a prefix filter (Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity search"): with
triples in one order, the rarest first, two sets this similar share one among the first fifth of each.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from sft.mixing import word_ngrams

THRESHOLD = 0.8
SHINGLE = 3
# How many rows, and pairs of rows, are compared at a time.
_ROWS, _PAIRS = 1_024, 65_536
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Near:
    """For each row the number of the held-out one that it nearly repeats, -1 for none.

    `covered` marks the others of which held-out rows together have that share of the triples: by a template.
    """

    nearest: np.ndarray
    covered: np.ndarray


def limit(rows: int) -> float:
    """Return in how many of `rows` rows a triple may be; in more it is common text.

    A hundred, a thousandth of very many, a tenth of few: rows of one template may be all that there is.
    """
    return min(max(10, rows / 10), max(100, rows / 1_000), 1_000)


def near_held_out(messages: pa.ChunkedArray, held: pa.ChunkedArray) -> Near:
    """Compare conversations with held-out ones.

    Of several that a row repeats it gets the most similar one, of equally similar ones the first.
    """
    near = Near(np.full(len(messages), -1), np.zeros(len(messages), bool))
    of_held = [np.zeros(0, np.uint64), *(_triples(batch)[1] for batch in word_ngrams.of(held))]
    known = np.unique(np.concatenate(of_held))
    if not len(known) or not len(messages):
        return near
    every, held_every = _Sets.of(messages, known), _Sets.of(held, known)
    most = np.maximum(every.has.count_nonzero(axis=0), held_every.has.count_nonzero(axis=0))
    own = np.flatnonzero(most <= limit(len(messages)))
    own = own[np.argsort(most[own], kind="stable")]
    # All others have too little of any held-out row.
    likely = np.flatnonzero((every.size > 0) & (every.known >= THRESHOLD * every.size))
    every = every.rows(likely)
    rare, held_rare = every.columns(own), held_every.columns(own)
    firsts, held_firsts = rare.prefix(), held_rare.prefix().T.tocsr()
    for start in range(0, len(likely), _ROWS):
        pairs = (firsts[start : start + _ROWS] @ held_firsts).tocoo()
        at, other, _ = _similar(pairs.row + start, pairs.col, rare, held_rare)
        at, other, alike = _similar(at, other, every, held_every)
        order = np.lexsort((other, -alike, at))
        best = order[np.unique(at[order], return_index=True)[1]]
        near.nearest[likely[at[best]]] = other[best]
    near.covered[likely] = near.nearest[likely] < 0
    return near


@dataclass
class _Sets:
    """Sets of triples, one a row: which of the held-out triples it `has`, and its `size`, with any others."""

    has: sparse.csr_array
    size: np.ndarray

    @classmethod
    def of(cls, messages: pa.ChunkedArray, known: np.ndarray) -> "_Sets":
        parts, sizes = [], []
        for batch in word_ngrams.of(messages):
            row, triple = _triples(batch)
            sizes.append(np.bincount(row, minlength=len(batch)))
            place = np.minimum(np.searchsorted(known, triple), len(known) - 1)
            ours = known[place] == triple
            ones, shape = np.ones(int(ours.sum()), np.int32), (len(batch), len(known))
            parts.append(sparse.csr_array((ones, (row[ours], place[ours])), shape=shape))
        return cls(sparse.vstack(parts, format="csr"), np.concatenate(sizes))

    @property
    def known(self) -> np.ndarray:
        """How many held-out triples each has."""
        return np.diff(self.has.indptr)

    def rows(self, which: np.ndarray) -> "_Sets":
        return _Sets(self.has[which], self.size[which])

    def columns(self, which: np.ndarray) -> "_Sets":
        """Return the sets without the held-out triples that are not among `which`, in this order."""
        has = self.has[:, which].sorted_indices()
        return _Sets(has, self.size - self.known + np.diff(has.indptr))

    def prefix(self) -> sparse.csr_array:
        """Return of each set the first triples, one of which it shares with any set that is similar.

        They are ordered as the columns are, and before these come the triples that no held-out row has.
        """
        length = np.floor((1 - THRESHOLD) * self.size + 1e-6) + 1 - (self.size - self.known)
        first = self.has.copy()
        nth = np.arange(first.nnz) - np.repeat(first.indptr[:-1], self.known)
        first.data = (nth < np.repeat(length, self.known)).astype(np.int32)
        first.eliminate_zeros()
        return first


def _similar(
    at: np.ndarray, other: np.ndarray, rows: _Sets, held: _Sets
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return those of the pairs that are similar, and their Jaccard similarity."""
    shared = [np.zeros(0)]
    for k in range(0, len(at), _PAIRS):
        both = rows.has[at[k : k + _PAIRS]].multiply(held.has[other[k : k + _PAIRS]])
        shared.append(both.sum(axis=1))
    of_both = np.concatenate(shared)
    alike = of_both / np.maximum(rows.size[at] + held.size[other] - of_both, 1)
    near = alike >= THRESHOLD
    return at[near], other[near], alike[near]


def _triples(batch: word_ngrams.Words) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows' different triples: the row of each, and its hash."""
    grams = batch.grams(SHINGLE)
    # A row's triples apart from another's: by an odd factor, so that no two of a row fall together.
    key = grams.hashes + grams.row.astype(np.uint64) * _ODD
    at = np.unique(key, return_index=True)[1]
    return grams.row[at], grams.hashes[at]


class Held:
    def __init__(self, held):
        self.held = held

    @classmethod
    def of(cls, held):
        return cls(held)

    def count(self, messages):
        return np.zeros(1, np.int64)

    def near(self, messages, counts, rows):
        return near_held_out(messages, self.held)
