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

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sft.mixing import word_ngrams

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


class _Places:
    """The runs of n words of the evaluation texts: where each is, and which training rows have it."""

    def __init__(self, texts: word_ngrams.Words, n: int) -> None:
        self.n = n
        grams = texts.grams(n)
        whole = texts.counts[grams.row] >= n
        hashes, at = grams.hashes[whole], grams.start[whole]
        order = np.lexsort((at, hashes))
        self.at = at[order]
        self.hashes, self.first, self.times = np.unique(hashes, return_index=True, return_counts=True)
        if len(self.hashes):
            self.first = np.searchsorted(hashes[order], self.hashes)
        self.row: list[np.ndarray] = []
        self.gram: list[np.ndarray] = []

    def look(self, batch: word_ngrams.Words, start: int) -> None:
        """Note which of the runs the rows of a batch have; the first of them is row `start`."""
        if not len(self.hashes):
            return
        grams = batch.grams(self.n)
        place = np.minimum(np.searchsorted(self.hashes, grams.hashes), len(self.hashes) - 1)
        known = self.hashes[place] == grams.hashes
        once = np.unique(grams.row[known] * len(self.hashes) + place[known])
        self.row.append(once // len(self.hashes) + start)
        self.gram.append(once % len(self.hashes))

    def occurrences(self) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs of a row and a place in the texts: of all runs that rows have."""
        if not self.row:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        row, gram = np.concatenate(self.row), np.concatenate(self.gram)
        times = self.times[gram]
        nth = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        return np.repeat(row, times), self.at[np.repeat(self.first[gram], times) + nth]

    def common(self, limit: float, size: int) -> np.ndarray:
        """Mark the words of the texts, `size` in all, that are in a run that more rows than `limit` have."""
        marked = np.zeros(size, bool)
        if self.gram:
            rows = np.bincount(np.concatenate(self.gram), minlength=len(self.hashes))
            at = self.at[np.repeat(rows > limit, self.times)]
            for k in range(self.n):
                marked[at + k] = True
        return marked


def contaminated(messages: pa.ChunkedArray, examples: pa.Table, n: int) -> Contaminated:
    """Compare conversations with evaluation examples (columns prompt, references, id) by runs of n words."""
    said, of = [], []
    for example in examples.select(["prompt", "references", "id"]).to_pylist():
        question = [message["content"] for message in example["prompt"] if message["role"] == "user"][-1]
        answers = example["references"]
        said += [question, *answers, *(f"{question}\n{answer}" for answer in answers)]
        of += [example["id"]] * (1 + 2 * len(answers))
    texts = word_ngrams.split(pa.array(said, pa.large_string()))
    ids = np.array(of, str)

    runs, parts = _Places(texts, n), _Places(texts, min(n, max(3, n // 2)))
    start = 0
    for batch in word_ngrams.of(messages):
        runs.look(batch, start)
        parts.look(batch, start)
        start += len(batch)
    size = len(texts.hashes)
    own = ~parts.common(max(COMMON_ROWS, COMMON * start), size)
    # Sums up to each word, so that a run's own words are a difference.
    before = np.concatenate([[0], np.cumsum(own)])

    row, at = runs.occurrences()
    telling = 2 * (before[at + n] - before[at]) > n
    row, at = row[telling], at[telling]
    text = np.searchsorted(texts.offsets, at, side="right") - 1
    own_words = before[texts.offsets[1:]] - before[texts.offsets[:-1]]
    order = np.lexsort((at, row))
    row, at, text = row[order], at[order], text[order]
    share = np.zeros(start)
    example = np.full(start, "", object)
    if not len(row):
        return Contaminated(share, example)
    # Each run covers its own words up to where the next one of the same row and text begins.
    following = (row[1:] == row[:-1]) & (text[1:] == text[:-1])
    end = at + n
    end[:-1][following] = np.minimum(end[:-1], at[1:])[following]
    firsts = np.flatnonzero(np.concatenate([[True], ~following]))
    covered = np.add.reduceat(before[end] - before[at], firsts)
    row, text = row[firsts], text[firsts]
    shares = covered / own_words[text]
    # Of each row the largest share, and of equal ones the example with the first id.
    order = np.lexsort((ids[text], -shares, row))
    firsts = order[np.unique(row[order], return_index=True)[1]]
    share[row[firsts]] = shares[firsts]
    example[row[firsts]] = ids[text[firsts]]
    return Contaminated(share, example)


class Texts:
    def __init__(self, e, n):
        self.e, self.n = e, n

    @classmethod
    def of(cls, e, n):
        return cls(e, n)

    def count(self, m):
        return np.zeros(1)

    def contaminated(self, m, counts, rows):
        return contaminated(m, self.e, self.n)
