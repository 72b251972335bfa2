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

from sft.mixing import word_beginnings, word_ngrams
from sft.mixing.known_hashes import KnownHashes
from sft.mixing.string_hashes import quick_hashes

THRESHOLD = 0.8
SHINGLE = 3
# How many rows, and pairs of rows, are compared at a time.
_ROWS, _PAIRS = 1_024, 65_536
# The share of a row's words that is looked at first: 1 - THRESHOLD, and what held-out rows have of any text.
_BEGINNING = 0.35


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
    """Compare conversations that are all at hand with held-out ones."""
    known = Held.of(held)
    return known.near(messages, known.count(messages), len(messages))


@dataclass
class Held:
    """What rows are compared with: the triples of the held-out ones, and in how many of these each is."""

    known: KnownHashes
    sets: "_Sets"
    times: np.ndarray

    @classmethod
    def of(cls, held: pa.ChunkedArray) -> "Held":
        """Take up the triples of held-out conversations."""
        words = list(word_ngrams.of(held, quick_hashes))
        known = KnownHashes(np.concatenate([np.zeros(0, np.uint64), *(_triples(of)[1] for of in words)]))
        sets = _Sets.joined([_Sets.of(of, known) for of in words], known)
        return cls(known, sets, sets.has.count_nonzero(axis=0))

    def count(self, messages: pa.ChunkedArray) -> np.ndarray:
        """Count in how many of these conversations each triple of held-out rows is, for `near`."""
        counts = np.zeros(len(self.known), np.int64)
        for batch in word_ngrams.of(messages, quick_hashes):
            counts += np.bincount(self.known.of_rows(*_triples(batch))[1], minlength=len(counts))
        return counts

    def near(self, messages: pa.ChunkedArray, counts: np.ndarray, rows: int) -> Near:
        """Compare conversations with the held-out ones; `counts` are those of `count` over `rows` rows.

        Of several that a row repeats it gets the most similar one, of equally similar ones the first.
        """
        near = Near(np.full(len(messages), -1), np.zeros(len(messages), bool))
        likely, every = self._likely(messages)
        if not len(likely):
            return near
        most = np.maximum(counts, self.times)
        own = np.flatnonzero(most <= limit(rows))
        own = own[np.argsort(most[own], kind="stable")]
        rare, held_rare = every.columns(own), self.sets.columns(own)
        firsts, held_firsts = rare.prefix(), held_rare.prefix().T.tocsr()
        for start in range(0, len(likely), _ROWS):
            pairs = (firsts[start : start + _ROWS] @ held_firsts).tocoo()
            at, other, _ = _similar(pairs.row + start, pairs.col, rare, held_rare)
            at, other, alike = _similar(at, other, every, self.sets)
            order = np.lexsort((other, -alike, at))
            best = order[np.unique(at[order], return_index=True)[1]]
            near.nearest[likely[at[best]]] = other[best]
        near.covered[likely] = near.nearest[likely] < 0
        return near

    def _likely(self, messages: pa.ChunkedArray) -> tuple[np.ndarray, "_Sets"]:
        """Return the rows of which held-out ones have enough, and their sets: all others have too little.

        What the beginning of a row has of its own decides it for most.
        """
        rows, sets = [np.zeros(0, np.int64)], []
        start = 0
        for parts, sizes in word_ngrams.said(messages) if len(self.known) else ():
            left, begin = np.flatnonzero(self._possible(parts, sizes)), start
            start += len(sizes)
            if not len(left):
                continue
            at = word_ngrams.ranges((np.cumsum(sizes) - sizes)[left], sizes[left])
            batch = word_ngrams.Tokens.of(parts.take(pa.array(at)), sizes[left])
            most = np.maximum(batch.most_words() - (SHINGLE - 1), 1)
            maybe = np.flatnonzero(self._unknown(_beginnings(batch)) <= (1 - THRESHOLD) * most + 1e-6)
            found = _Sets.of(batch.of_rows(maybe).words(quick_hashes), self.known)
            enough = np.flatnonzero((found.size > 0) & (found.known >= THRESHOLD * found.size))
            rows.append(left[maybe[enough]] + begin)
            sets.append(found.rows(enough))
        return np.concatenate(rows), _Sets.joined(sets, self.known)

    def _possible(self, parts: pa.Array, sizes: np.ndarray) -> np.ndarray:
        """Mark the rows that cannot be ruled out by a look at the beginnings of the bytes of plain ones."""
        begun = word_beginnings.of(parts, sizes, _BEGINNING)
        most = np.maximum(begun.most - (SHINGLE - 1), 1)
        possible = np.ones(len(sizes), bool)
        # One triple less: it may end with a part of a word.
        possible[begun.rows] = self._unknown(begun.words) - 1 <= (1 - THRESHOLD) * most + 1e-6
        return possible

    def _unknown(self, words: word_ngrams.Words) -> np.ndarray:
        """Count the different triples of each row that no held-out row has, or fewer."""
        grams = words.grams(SHINGLE)
        own = ~self.known.maybe(grams.hashes) & (words.counts >= SHINGLE)[grams.row]
        return _distinct(grams.row[own], grams.hashes[own], len(words))


def _beginnings(batch: word_ngrams.Tokens) -> word_ngrams.Words:
    """Return the words at the beginning of each row."""
    tokens = np.diff(batch.offsets)
    counts = np.minimum(tokens, (_BEGINNING * tokens).astype(np.int64) + SHINGLE)
    return batch.of_rows(np.arange(len(batch)), counts).words(quick_hashes)


@dataclass
class _Sets:
    """Sets of triples, one a row: which of the held-out triples it `has`, and its `size`, with any others."""

    has: sparse.csr_array
    size: np.ndarray

    @classmethod
    def of(cls, words: word_ngrams.Words, known: KnownHashes) -> "_Sets":
        row, triple = _triples(words)
        size = _distinct(row, triple, len(words))
        row, place = known.of_rows(row, triple)
        ones, starts = np.ones(len(row), np.int32), np.searchsorted(row, np.arange(len(words) + 1))
        return cls(sparse.csr_array((ones, place, starts), shape=(len(words), len(known))), size)

    @classmethod
    def joined(cls, sets: list["_Sets"], known: KnownHashes) -> "_Sets":
        none = cls(sparse.csr_array((0, len(known)), dtype=np.int32), np.zeros(0, np.int64))
        all_sets = [none, *sets]
        return cls(
            sparse.vstack([of.has for of in all_sets], format="csr"),
            np.concatenate([of.size for of in all_sets]),
        )

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


def _triples(words: word_ngrams.Words) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows' triples, each as often as it is there: the row that it is in, and its hash."""
    grams = words.grams(SHINGLE)
    return grams.row, grams.hashes


def _distinct(row: np.ndarray, hashes: np.ndarray, rows: int) -> np.ndarray:
    """Count the different hashes of each row."""
    bits = np.uint64(max(1, rows - 1).bit_length())
    # The row in front, so that one sort does: what the shift drops of a hash tells no two of a row apart.
    key = np.sort((row.astype(np.uint64) << (np.uint64(64) - bits)) | (hashes >> bits))
    first = np.ones(len(key), bool)
    first[1:] = key[1:] != key[:-1]
    return np.bincount((key[first] >> (np.uint64(64) - bits)).astype(np.int64), minlength=rows)
