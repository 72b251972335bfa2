"""Training rows that hold an evaluation example's text, found by runs of n words.

The rule is that of Tulu 3 (Lambert et al. 2024, arXiv:2411.15124, section 3.2): a word of the example is
covered where a run of n words (8 there) that it belongs to is in the training row too, and the row is
contaminated where more than half of the example's words are covered. Runs found anywhere are not enough: by
that rule the 8-grams of template sentences ("is the plural of ...") took two thirds of a dictionary's rows.

Templates still cover more than half of short texts ("These are my ingredients: X and water. Give me a recipe
with steps and tips."), so what is common to the training rows does not count: a word in a run of n/2 words
that many rows have is the template's; runs of n words count where most of their words are the text's own,
and so does the share that they cover. The price: text that is copied into very many rows passes for a
template.

Texts are an example's last question (the user's: a tool may have spoken since), each of its references, and
both together; one shorter than n words cannot match. What guards these is that items are held out before
mixing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sft.mixing import word_ngrams
from sft.mixing.known_hashes import KnownHashes
from sft.mixing.string_hashes import quick_hashes

SHARE = 0.5
# A run of n/2 words is common in this share of the rows, but never in fewer than COMMON_ROWS.
COMMON, COMMON_ROWS = 0.001, 100


@dataclass
class Contaminated:
    """For each row the share of an example's own words that it holds, and the example: 0 and "" for none."""

    share: np.ndarray
    example: np.ndarray

    @property
    def removed(self) -> np.ndarray:
        """Which rows are contaminated."""
        return self.share > SHARE


class _Runs:
    """The runs of n words of the evaluation texts: their hashes, and the places of their first words."""

    def __init__(self, texts: word_ngrams.Words, n: int) -> None:
        self.n = n
        grams = texts.grams(n)
        whole = texts.counts[grams.row] >= n
        self.known = KnownHashes(grams.hashes[whole])
        self.gram = np.searchsorted(self.known.hashes, grams.hashes[whole])
        self.at = grams.start[whole]

    def of_rows(self, batch: word_ngrams.Words) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs of a row of the batch and a run that it has, each once."""
        grams = batch.grams(self.n)
        return self.known.of_rows(grams.row, grams.hashes)


@dataclass
class Hits:
    """What conversations have of the examples: how often each run of n/2 words is in them (`counts`), and
    pairs of a row, of `rows`, and a run of n words that it has.
    """

    rows: int
    counts: np.ndarray
    row: np.ndarray
    gram: np.ndarray


@dataclass
class Texts:
    """Evaluation texts: their words, the number of the example that each is of, and the examples' ids."""

    words: word_ngrams.Words
    example: np.ndarray
    ids: np.ndarray
    runs: _Runs
    parts: _Runs

    @classmethod
    def of(cls, examples: pa.Table, n: int) -> "Texts":
        """Take up examples (columns prompt, references, id), to be found by runs of n words."""
        said, of = [], []
        for example in examples.select(["prompt", "references", "id"]).to_pylist():
            question = [message["content"] for message in example["prompt"] if message["role"] == "user"][-1]
            answers = example["references"]
            said += [question, *answers, *(f"{question}\n{answer}" for answer in answers)]
            of += [example["id"]] * (1 + 2 * len(answers))
        words = word_ngrams.split(pa.array(said, pa.large_string()), quick_hashes)
        ids, number = np.unique(np.array(of, str), return_inverse=True)
        return cls(words, number, ids, _Runs(words, n), _Runs(words, min(n, max(3, n // 2))))

    def count(self, messages: pa.ChunkedArray) -> np.ndarray:
        """Count in how many of these conversations each run of n/2 words is, for `contaminated`."""
        counts = np.zeros(len(self.parts.known), np.int64)
        for batch in word_ngrams.of(messages, quick_hashes):
            counts += np.bincount(self.parts.of_rows(batch)[1], minlength=len(counts))
        return counts

    def look(self, messages: pa.ChunkedArray) -> Hits:
        """Find the runs of the examples' words in conversations, for `shares`."""
        counts, start = np.zeros(len(self.parts.known), np.int64), 0
        rows, grams = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for batch in word_ngrams.of(messages, quick_hashes):
            counts += np.bincount(self.parts.of_rows(batch)[1], minlength=len(counts))
            row, gram = self.runs.of_rows(batch)
            rows.append(row + start)
            grams.append(gram)
            start += len(batch)
        return Hits(start, counts, np.concatenate(rows), np.concatenate(grams))

    def shares(self, hits: Hits, counts: np.ndarray, rows: int) -> Contaminated:
        """Compare the conversations with the examples; `counts` are the sum of the hits' over `rows` rows."""
        return Contaminated(*self._shares([(hits.row, hits.gram, hits.rows)], counts, rows))

    def contaminated(self, messages: pa.ChunkedArray, counts: np.ndarray, rows: int) -> Contaminated:
        """Compare conversations with the examples; `counts` are those of `count` over `rows` rows."""
        found = ((*self.runs.of_rows(batch), len(batch)) for batch in word_ngrams.of(messages, quick_hashes))
        return Contaminated(*self._shares(found, counts, rows))

    def _shares(
        self, found: Iterable[tuple[np.ndarray, np.ndarray, int]], counts: np.ndarray, rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return shares and examples, batch by batch: given pairs of a row and a run, and the rows."""
        # Sums up to each word, so that a run's own words are a difference.
        before = np.concatenate([[0], np.cumsum(~self._common(counts, rows))])
        n = self.runs.n
        telling = np.flatnonzero(2 * (before[self.runs.at + n] - before[self.runs.at]) > n)
        telling = telling[np.argsort(self.runs.gram[telling], kind="stable")]
        places = self.runs.at[telling]
        bounds = np.searchsorted(self.runs.gram[telling], np.arange(len(self.runs.known) + 1))
        share, example = [np.zeros(0)], [np.zeros(0, object)]
        for row, gram, size in found:
            times = bounds[gram + 1] - bounds[gram]
            at = places[word_ngrams.ranges(bounds[gram], times)]
            shares, examples = self._largest(np.repeat(row, times), at, before, size)
            share.append(shares)
            example.append(examples)
        return np.concatenate(share), np.concatenate(example)

    def _common(self, counts: np.ndarray, rows: int) -> np.ndarray:
        """Mark the words that are in a run that many rows have."""
        marked = np.zeros(len(self.words.hashes), bool)
        at = self.parts.at[counts[self.parts.gram] > max(COMMON_ROWS, COMMON * rows)]
        for k in range(self.parts.n):
            marked[at + k] = True
        return marked

    def _largest(
        self, row: np.ndarray, at: np.ndarray, before: np.ndarray, rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return each row's largest share of a text's own words, and its example, by the runs that it has."""
        share, example = np.zeros(rows), np.full(rows, "", object)
        if not len(row):
            return share, example
        offsets = self.words.offsets
        text = np.searchsorted(offsets, at, side="right") - 1
        own_words = before[offsets[1:]] - before[offsets[:-1]]
        order = np.lexsort((at, row))
        row, at, text = row[order], at[order], text[order]
        # Each run covers its own words up to where the next one of the same row and text begins.
        following = (row[1:] == row[:-1]) & (text[1:] == text[:-1])
        end = at + self.runs.n
        end[:-1][following] = np.minimum(end[:-1], at[1:])[following]
        firsts = np.flatnonzero(np.concatenate([[True], ~following]))
        covered = np.add.reduceat(before[end] - before[at], firsts)
        row, text = row[firsts], text[firsts]
        shares = covered / own_words[text]
        # Of each row the largest share, and of equal ones the example with the first id.
        order = np.lexsort((self.example[text], -shares, row))
        firsts = order[np.unique(row[order], return_index=True)[1]]
        share[row[firsts]] = shares[firsts]
        example[row[firsts]] = self.ids[self.example[text[firsts]]]
        return share, example


def contaminated(messages: pa.ChunkedArray, examples: pa.Table, n: int) -> Contaminated:
    """Compare conversations that are all at hand with evaluation examples by runs of n words."""
    texts = Texts.of(examples, n)
    hits = texts.look(messages)
    return texts.shares(hits, hits.counts, hits.rows)
