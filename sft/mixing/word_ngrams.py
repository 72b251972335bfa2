"""The words of conversations, and hashes of their runs of n words, for many rows at a time.

A word is a run of letters and digits in lower case; scripts that are written without spaces count every
letter as a word. Words are hashed by their text, so equal runs have equal hashes in any row, file or process.

Most text is ASCII, where words are what lies between other bytes: a table of the bytes finds them. What holds
other letters is normalized by Arrow first, each distinct run of bytes once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from sft.mixing.string_hashes import PADDING, xxh3_64

# So that what is made of a batch of common rows stays in the processor's cache.
_BATCH = 1_024
_APART = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
# As standardized rows have a call; within the arguments, texts have their quotes escaped.
_ID = r'\{"id": "(?:[^"\\]|\\.)*", ("type": "function", "function": )'
# ASCII letters in lower case, digits, a space for what lies between; other bytes are letters till looked at.
SPACE = 32
LOWER = bytes(byte if byte > 127 or chr(byte).isalnum() else SPACE for byte in range(256)).lower()
# Of a character's UTF-8 a byte becomes two words at most: U+3316 stands for six letters that are words.
_MOST_WORDS = 2

Hash: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # as xxh3_64


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
        size, counts, begin = len(self.hashes), self.counts, self.offsets[:-1]
        # An odd factor for each place, so the order of the words counts.
        factors = [np.uint64(xxhash.xxh3_64_intdigest(f"place {k}".encode()) | 1) for k in range(n)]
        total = np.zeros(size, np.uint64)
        whole = np.ones(size, bool)
        for k, factor in enumerate(factors[:size]):
            total[: size - k] += self.hashes[k:] * factor
            if k:
                whole[self.offsets[1:][counts >= k] - k] = False
        short = np.flatnonzero((counts > 0) & (counts < n))
        if len(short):
            whole[begin[short]] = True
            total[begin[short]] = 0
            for k, factor in enumerate(factors):
                of = begin[short[counts[short] > k]]
                total[of] += self.hashes[of + k] * factor
        runs = np.where(counts > 0, np.maximum(counts - n + 1, 1), 0)
        return Grams(total[whole], np.repeat(np.arange(len(self)), runs), np.flatnonzero(whole))


@dataclass
class Tokens:
    """Runs of bytes between ASCII's spaces and signs; row r has those from `offsets[r]` to `offsets[r + 1]`.

    One is a word where it is ASCII, and any number of words where it is not (`other`). `raw` is the text as
    it was; in `text`, padded for `xxh3_64`, ASCII is in lower case.
    """

    raw: np.ndarray
    text: np.ndarray
    start: np.ndarray
    size: np.ndarray
    other: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, parts: pa.Array, sizes: np.ndarray) -> "Tokens":
        """Find the tokens of texts that come in parts, of which row r has `sizes[r]`."""
        return cls.of_bytes(*bytes_of(parts), sizes)

    @classmethod
    def of_bytes(cls, raw: bytes, bounds: np.ndarray, sizes: np.ndarray) -> "Tokens":
        """Find the tokens of texts in parts, of which p is `raw[bounds[p]:bounds[p + 1]]`."""
        text = np.frombuffer(raw.translate(LOWER) + bytes([SPACE]) * PADDING, np.uint8)
        inside = text > SPACE
        first, last = inside.copy(), inside.copy()
        first[1:] &= ~inside[:-1]
        last[:-1] &= ~inside[1:]
        first[bounds], last[bounds - 1] = inside[bounds], inside[bounds - 1]
        start = np.flatnonzero(first)
        other = np.zeros(len(start), bool)
        if not raw.isascii():
            high = text > 127
            high[1:] &= text[:-1] < 128
            high[bounds] = text[bounds] > 127
            other[np.searchsorted(start, np.flatnonzero(high), side="right") - 1] = True
        size = np.flatnonzero(last) + 1 - start
        rows = np.searchsorted(start, bounds[np.concatenate([[0], np.cumsum(sizes)])])
        if other.any():
            # With the sign before it, which a mark can make another sign of: U+0338 after "=".
            begins = np.zeros(len(text), bool)
            begins[bounds] = True
            after = np.flatnonzero(other & ~begins[start])
            start[after] -= 1
            size[after] += 1
        return cls(np.frombuffer(raw, np.uint8), text, start, size, other, rows)

    def of_rows(self, rows: np.ndarray, counts: np.ndarray | None = None) -> "Tokens":
        """Return those rows, of each the first tokens, as many as `counts` says, or all."""
        counts = np.diff(self.offsets)[rows] if counts is None else counts
        at = ranges(self.offsets[rows], counts)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return Tokens(
            self.raw, self.text, self.start.take(at), self.size.take(at), self.other.take(at), offsets
        )

    def most_words(self) -> np.ndarray:
        """Return for each row a number of words that it does not exceed."""
        most = np.diff(self.offsets)
        if self.other.any():
            at = np.flatnonzero(self.other)
            row = np.searchsorted(self.offsets, at, side="right") - 1
            most += np.bincount(row, _MOST_WORDS * self.size[at], len(most)).astype(np.int64)
        return most

    def words(self, hashed: Hash = xxh3_64) -> Words:
        """Split what is not ASCII, and hash the words."""
        if not self.other.any():
            return Words(hashed(self.text, self.start, self.size), self.offsets)
        at = np.flatnonzero(self.other)
        size = self.size[at]
        data = self.raw[ranges(self.start[at], size)]
        offsets = np.concatenate([[0], np.cumsum(size)])
        texts = pa.LargeStringArray.from_buffers(len(at), pa.py_buffer(offsets), pa.py_buffer(data))
        encoded = texts.dictionary_encode()
        distinct = split_any(encoded.dictionary, hashed)
        index = encoded.indices.to_numpy()
        found = distinct.counts[index]
        counts = np.ones(len(self.start), np.int64)
        counts[at] = found
        places = np.concatenate([[0], np.cumsum(counts)])
        hashes = np.empty(places[-1], np.uint64)
        hashes[ranges(places[at], found)] = distinct.hashes[ranges(distinct.offsets[:-1][index], found)]
        plain = np.flatnonzero(~self.other)
        hashes[places[plain]] = hashed(self.text, self.start[plain], self.size[plain])
        return Words(hashes, places[self.offsets])


def split_any(text: pa.Array, hashed: Hash = xxh3_64) -> Words:
    """Split texts of any letters into words, and hash these."""
    plain = pc.utf8_lower(pc.utf8_normalize(text, "NFKC"))
    plain = pc.replace_substring_regex(plain, _APART, r" \1 ")
    plain = pc.utf8_trim(pc.replace_substring_regex(plain, r"[^\p{L}\p{M}\p{N}]+", " "), " ")
    lists = pc.split_pattern(plain, " ")
    flat = lists.flatten()
    sizes = pc.list_value_length(lists).to_numpy().copy()
    sizes[pc.equal(plain, "").to_numpy(zero_copy_only=False)] = 0  # split, it is one empty word
    raw, bounds = bytes_of(flat.cast(pa.large_string()))
    start = bounds[:-1][np.diff(bounds) > 0]
    hashes = hashed(
        np.frombuffer(raw + bytes(PADDING), np.uint8), start, np.diff(bounds)[np.diff(bounds) > 0]
    )
    return Words(hashes, np.concatenate([[0], np.cumsum(sizes)]))


def bytes_of(texts: pa.Array) -> tuple[bytes, np.ndarray]:
    """Return the bytes of texts (large_string), one behind another, and where each begins, and the end."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    raw = b"" if data is None else data[bounds[0] : bounds[-1]].to_pybytes()
    return raw, bounds - bounds[0]


def texts(messages: pa.ChunkedArray | pa.Array) -> Iterator[pa.Array]:
    """Yield each conversation's text, a batch of rows at a time; system messages are left out."""
    for parts, sizes in said(messages):
        offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]))
        yield pc.binary_join(
            pa.LargeListArray.from_arrays(offsets, parts), pa.scalar("\n", pa.large_string())
        )


def tokens(messages: pa.ChunkedArray | pa.Array) -> Iterator[Tokens]:
    """Yield the tokens of conversations, a batch of rows at a time; system messages have none."""
    for parts, sizes in said(messages):
        yield Tokens.of(parts, sizes)


def said(messages: pa.ChunkedArray | pa.Array) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """Yield the texts of a batch's messages, and how many messages each row has.

    One system message can stand before thousands of conversations that have nothing else in common.
    """
    table = pa.table({"messages": messages})
    for batch in table.to_batches(max_chunksize=_BATCH):
        rows = batch["messages"]
        flat = rows.flatten()
        content = _text(flat)
        others = pc.not_equal(flat.field("role"), "system")
        if not pc.all(others, min_count=0).as_py():
            content = pc.if_else(others, content, pa.scalar("", pa.large_string()))
        yield content, pc.fill_null(pc.list_value_length(rows), 0).to_numpy().astype(np.int64)


def _text(messages: pa.Array) -> pa.Array:
    """Return what each message says, thinks and calls; a call's id, which is drawn at random, left out."""
    fields = [messages.field(name) for name in ("reasoning", "content", "tool_calls")]
    parts = [field.cast(pa.large_string()) for field in fields]
    if all(part.null_count == len(part) for part in (parts[0], parts[2])):
        return pc.fill_null(parts[1], "")
    parts[-1] = pc.replace_substring_regex(parts[-1], _ID, r"{\1")
    return pc.binary_join_element_wise(*parts, pa.scalar("\n", pa.large_string()), null_handling="skip")


def split(text: pa.Array, hashed: Hash = xxh3_64) -> Words:
    """Split texts into words and hash these."""
    return Tokens.of(text.cast(pa.large_string()), np.ones(len(text), np.int64)).words(hashed)


def of(messages: pa.ChunkedArray | pa.Array, hashed: Hash = xxh3_64) -> Iterator[Words]:
    """Yield the words of conversations, a batch of rows at a time (all words at once can fill the memory)."""
    for batch in tokens(messages):
        yield batch.words(hashed)


def counts(messages: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Count the words of each conversation."""
    of_batches = [
        batch.words().counts if batch.other.any() else np.diff(batch.offsets) for batch in tokens(messages)
    ]
    return np.concatenate([np.zeros(0, np.int64), *of_batches])


def ranges(start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the numbers from each start on, `size` of them each, one after another."""
    ends = np.cumsum(size)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - (ends - size), size)
