"""The words of conversations, and hashes of their runs of n words, for many rows at a time.

A word is a run of letters and digits in lower case; scripts that are written without spaces count every
letter as a word. Words are hashed by their text, so equal runs have equal hashes in any row, file or process.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

_BATCH = 16_384
_APART = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
# As standardized rows have a call; within the arguments, texts have their quotes escaped.
_ID = r'\{"id": "(?:[^"\\]|\\.)*", ("type": "function", "function": )'


@dataclass
class Grams:
    """Hashes of runs of words, row after row: the row that each is in, and the place of its first word."""

    hashes: np.ndarray
    row: np.ndarray
    start: np.ndarray


@dataclass
class Words:
    """Hashes of the words of rows that follow one another: row r has `hashes[offsets[r]:offsets[r + 1]]`."""

    hashes: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """How many words each row has."""
        return np.diff(self.offsets)

    def grams(self, n: int) -> Grams:
        """Hash every run of n words; a row of fewer words has one run, of all of them."""
        row = np.repeat(np.arange(len(self)), self.counts)
        at = np.arange(len(self.hashes))
        start, end = self.offsets[:-1][row], self.offsets[1:][row]
        total = np.zeros(len(at), np.uint64)
        for k in range(n):
            # An odd factor for each place, so the order of the words counts.
            factor = np.uint64(xxhash.xxh3_64_intdigest(f"place {k}".encode()) | 1)
            inside = np.flatnonzero(at + k < end)
            total[inside] += self.hashes[inside + k] * factor
        whole = (at + n <= end) | (at == start)
        return Grams(total[whole], row[whole], at[whole])


def texts(messages: pa.ChunkedArray | pa.Array) -> Iterator[pa.Array]:
    """Yield each conversation's text, a batch of rows at a time; system messages are left out.

    One system message can stand before thousands of conversations that have nothing else in common.
    """
    table = pa.table({"messages": messages})
    for batch in table.to_batches(max_chunksize=_BATCH):
        rows = batch["messages"]
        flat = rows.flatten()
        said = pc.not_equal(flat.field("role"), "system")
        content = pc.if_else(said, _text(flat), pa.scalar("", pa.large_string()))
        sizes = pc.fill_null(pc.list_value_length(rows), 0).cast(pa.int64())
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(sizes)])
        yield pc.binary_join(
            pa.LargeListArray.from_arrays(offsets, content), pa.scalar("\n", pa.large_string())
        )


def _text(messages: pa.Array) -> pa.Array:
    """Return what each message says, thinks and calls; a call's id, which is drawn at random, left out."""
    parts = [messages.field(name).cast(pa.large_string()) for name in ("reasoning", "content", "tool_calls")]
    parts[-1] = pc.replace_substring_regex(parts[-1], _ID, r"{\1")
    return pc.binary_join_element_wise(*parts, pa.scalar("\n", pa.large_string()), null_handling="skip")


def split(text: pa.Array) -> Words:
    """Split texts into words and hash these."""
    plain = pc.utf8_lower(pc.utf8_normalize(text.cast(pa.large_string()), "NFKC"))
    plain = pc.replace_substring_regex(plain, _APART, r" \1 ")
    plain = pc.utf8_trim(pc.replace_substring_regex(plain, r"[^\p{L}\p{M}\p{N}]+", " "), " ")
    lists = pc.split_pattern(plain, " ")
    flat = lists.flatten()
    sizes = pc.list_value_length(lists).to_numpy().copy()
    sizes[pc.equal(plain, "").to_numpy(zero_copy_only=False)] = 0  # split, it is one empty word
    flat = flat.filter(pc.not_equal(flat, ""))
    encoded = flat.dictionary_encode()
    digest = xxhash.xxh3_64_intdigest
    distinct = [digest(word.encode()) for word in encoded.dictionary.to_pylist()]
    hashes = np.array(distinct, np.uint64)[encoded.indices.to_numpy()]
    return Words(hashes, np.concatenate([[0], np.cumsum(sizes)]))


def of(messages: pa.ChunkedArray | pa.Array) -> Iterator[Words]:
    """Yield the words of conversations, a batch of rows at a time (all words at once can fill the memory)."""
    for batch in texts(messages):
        yield split(batch)
