"""The beginnings of texts, split into words, and how many words the whole texts have at most.

To count the words of a text costs a tenth of splitting and hashing it, and of most rows a beginning shows
that they are nothing like what is sought. Only texts that are ASCII throughout are looked at so.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sft.mixing import word_ngrams
from sft.mixing.string_hashes import quick_hashes

# Beyond the share: so that short texts have some words.
_MORE = 24


@dataclass
class Beginnings:
    """The words of the beginnings of `rows`: numbers of rows of a batch, those that are plain ASCII.

    The last one of a row may be a part of a word. `most` are the words that each of the rows has at most, all
    of it.
    """

    rows: np.ndarray
    words: word_ngrams.Words
    most: np.ndarray


def of(parts: pa.Array, sizes: np.ndarray, share: float) -> Beginnings:
    """Split the first `share` of the bytes of texts that come in parts, of which row r has `sizes[r]`."""
    raw, bounds = word_ngrams.bytes_of(parts)
    ends = bounds[np.concatenate([[0], np.cumsum(sizes)])]
    data = np.frombuffer(raw, np.uint8)
    plain = np.ones(len(sizes), bool) if raw.isascii() else np.diff(_before(data > 127, ends)) == 0
    rows = np.flatnonzero(plain)
    first = np.frombuffer(raw.translate(word_ngrams.LOWER), np.uint8) > word_ngrams.SPACE
    first[1:] &= ~first[:-1]
    most = np.diff(_before(first, ends)) + sizes  # a part begins a word where no space stands before it
    begin, size = ends[rows], np.diff(ends)[rows]
    kept = np.minimum(size, (share * size).astype(np.int64) + _MORE)
    view = memoryview(raw)
    beginnings = b"".join([view[a:b] for a, b in zip(begin.tolist(), (begin + kept).tolist(), strict=True)])
    # Where the parts begin in these; those that are beyond a beginning, at its end.
    at = word_ngrams.ranges(np.cumsum(sizes)[rows] - sizes[rows], sizes[rows])
    begins = np.minimum(bounds[at] - np.repeat(begin, sizes[rows]), np.repeat(kept, sizes[rows]))
    begins += np.repeat(np.cumsum(kept) - kept, sizes[rows])
    tokens = word_ngrams.Tokens.of_bytes(beginnings, np.append(begins, len(beginnings)), sizes[rows])
    words = word_ngrams.Words(quick_hashes(tokens.text, tokens.start, tokens.size), tokens.offsets)
    return Beginnings(rows, words, most[rows])


def _before(mask: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Count what is marked before each of these places: 64 bits at a time."""
    bits = np.zeros(len(mask) // 64 + 1, np.uint64)
    packed = np.packbits(mask, bitorder="little")
    bits.view(np.uint8)[: len(packed)] = packed
    before = np.concatenate([[0], np.cumsum(np.bitwise_count(bits), dtype=np.int64)])
    word, rest = places >> 6, (places & 63).astype(np.uint64)
    below = bits[word] & ((np.uint64(1) << rest) - np.uint64(1))
    return before[word] + np.bitwise_count(below)
