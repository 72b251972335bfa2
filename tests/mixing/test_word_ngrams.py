"""Words are those of a plain splitting of the normalized text, with its hashes."""

import random
import re
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from sft.mixing import word_beginnings, word_ngrams
from sft.mixing.known_hashes import KnownHashes
from sft.mixing.string_hashes import PADDING, quick_hashes, xxh3_64
from tests.fuzzing import cases
from tests.tiny import dialogue, table

# What changes when letters are normalized, apart or together, among what does not.
PIECES = [
    *"aB9 =<-_'\n", *("é", "E\u0301", "H\u0331", "\u0338", "\u0327", "½", "²", "你", "カ", "㌖", "ﷺ", "ก"),
    *("\u00a0", "🙂", "ß", "İ", "．", "Ａ", "\u3000", "ﬁ", "русский", "\u200d", "한", "\u1100", "\u1161"),
    *("٣", "word", "LongerThanEight", "MoreThanSixteenLetters"),
]  # fmt: skip


def texts(seed: int, count: int) -> list[str]:
    generator = random.Random(seed)
    return ["".join(generator.choices(PIECES, k=generator.choice([0, 1, 2, 5, 20]))) for _ in range(count)]


def plain(said: list[str]) -> list[list[int]]:
    """Hash the words of texts as their description says, by Arrow's normalization and regular expressions."""
    lower = pc.utf8_lower(pc.utf8_normalize(pa.array(said, pa.string()), "NFKC"))
    apart = pc.replace_substring_regex(lower, word_ngrams._APART, r" \1 ")
    split = pc.replace_substring_regex(apart, r"[^\p{L}\p{M}\p{N}]+", " ").to_pylist()
    return [[xxhash.xxh3_64_intdigest(word.encode()) for word in text.split(" ") if word] for text in split]


@pytest.mark.parametrize("seed", range(3))
def test_words_are_those_of_the_normalized_text(seed: int) -> None:
    said = texts(seed, 1_000)
    words = word_ngrams.split(pa.array(said, pa.string()))
    assert [words.hashes[a:b].tolist() for a, b in pairwise(words.offsets)] == plain(said)
    assert max(words.counts) > 20


@pytest.mark.parametrize("seed", range(3))
def test_messages_are_apart(seed: int) -> None:
    """Each message's words are its own, whatever the next begins with, and a system's do not count."""
    generator = random.Random(seed)
    rows = [
        [
            {"role": generator.choice(["user", "assistant", "system"]), "content": text}
            for text in texts(generator.randrange(10**9), generator.randrange(4))
        ]
        for _ in range(400)
    ]
    messages = table(rows)["messages"]
    of_messages = iter(plain([message["content"] for row in rows for message in row]))
    expected = [
        [word for message in row for word in next(of_messages) if message["role"] != "system"] for row in rows
    ]
    (words,) = word_ngrams.of(messages)
    assert [words.hashes[a:b].tolist() for a, b in pairwise(words.offsets)] == expected
    assert word_ngrams.counts(messages).tolist() == [len(of) for of in expected]
    (tokens,) = word_ngrams.tokens(messages)
    assert (tokens.most_words() >= words.counts).all()


def test_no_character_is_more_words_than_are_reckoned_with() -> None:
    characters = [chr(code) for code in range(128, 0x30000) if not 0xD800 <= code < 0xE000]
    changed = [letter for letter in characters if len(unicodedata.normalize("NFKC", letter)) > 1]
    texts = pa.array([*(f"a{letter}b" for letter in changed), *changed])
    most = word_ngrams.Tokens.of(texts.cast(pa.large_string()), np.ones(len(texts), np.int64)).most_words()
    assert (most >= word_ngrams.split(texts).counts).all() and len(changed) > 1_000


@pytest.mark.parametrize("n", [1, 3, 8])
def test_runs_of_words(n: int) -> None:
    generator = random.Random(n)
    rows = [[f"w{generator.randrange(5)}" for _ in range(generator.randrange(12))] for _ in range(200)]
    words = word_ngrams.split(pa.array([" ".join(row) for row in rows]))
    grams = words.grams(n)
    runs = []
    for number, row in enumerate(rows):
        at = range(max(1, len(row) - n + 1)) if row else ()
        runs += [(number, tuple(row[k : k + n]), int(words.offsets[number]) + k) for k in at]
    assert [(row, start) for row, _, start in runs] == list(
        zip(grams.row.tolist(), grams.start.tolist(), strict=True)
    )
    # Equal runs have equal hashes, others others.
    by_run = dict(zip([run for _, run, _ in runs], grams.hashes.tolist(), strict=True))
    assert [by_run[run] for _, run, _ in runs] == grams.hashes.tolist()
    assert len(set(by_run.values())) == len(by_run)


def test_hashes_are_those_of_xxhash() -> None:
    generator = random.Random(0)
    strings = [generator.randbytes(size) for size in range(1, 40) for _ in range(20)]
    generator.shuffle(strings)
    data = np.frombuffer(b"".join(strings) + bytes(PADDING), np.uint8)
    size = np.array([len(of) for of in strings])
    expected = [xxhash.xxh3_64_intdigest(of) for of in strings]
    assert xxh3_64(data, np.cumsum(size) - size, size).tolist() == expected


def test_batches_follow_one_another() -> None:
    rows = [dialogue(f"w{n}", "a b"[: n % 4]) for n in range(2_500)]
    counted = [len(re.findall(r"\w+", " ".join(message["content"] for message in row))) for row in rows]
    assert word_ngrams.counts(table(rows)["messages"]).tolist() == counted
    assert np.concatenate([of.counts for of in word_ngrams.of(table(rows)["messages"])]).tolist() == counted


@cases(0.5)
@given(st.lists(st.integers(0, 60)), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 80))))
def test_known_hashes(ours: list[int], others: list[tuple[int, int]]) -> None:
    spread = np.uint64(0x9E3779B97F4A7C15)
    known = KnownHashes(np.array(ours, np.uint64) * spread)
    row = np.array([row for row, _ in others], np.int64)
    hashes = np.array([value for _, value in others], np.uint64) * spread
    at, place = known.find(hashes)
    assert at.tolist() == [n for n, (_, value) in enumerate(others) if value in ours]
    assert known.hashes[place].tolist() == hashes[at].tolist()
    assert known.maybe(hashes)[at].all()
    rows, places = known.of_rows(row, hashes)
    of_rows = list(zip(rows.tolist(), known.hashes[places].tolist(), strict=True))
    expected = {(row, value * int(spread) % 2**64) for row, value in others if value in ours}
    assert set(of_rows) == expected and len(of_rows) == len(expected)


def test_quick_hashes_tell_strings_apart_by_their_text_only() -> None:
    generator = random.Random(0)
    of_one_byte = [letter * size for size in range(1, 40) for letter in (b"a", b"b")]
    others = [bytes(generator.choices(range(2, 256), k=size)) for size in range(1, 40) for _ in range(50)]
    # One byte differs, which may be any.
    changed = [of[:n] + bytes([of[n] ^ 1]) + of[n + 1 :] for of in others for n in range(len(of))]
    strings = [*of_one_byte, *others, *changed]
    once, again = (_quick(list(of)) for of in (strings, reversed(strings)))
    assert once == again[::-1] and len(set(once)) == len(set(strings))


def _quick(strings: list[bytes]) -> list[int]:
    size = np.array([len(of) for of in strings])
    data = np.frombuffer(b"".join(strings) + b"x" * PADDING, np.uint8)
    return quick_hashes(data, np.cumsum(size) - size, size).tolist()


def test_beginnings_are_the_first_words_of_plain_rows() -> None:
    generator = random.Random(1)
    vocabulary = ["a", "It", "'s", "...", "word", "extraordinarily-long", "", "\n", "42", "é"]
    rows = []
    for number in range(400):
        letters = vocabulary[: -1 if number % 2 else None]
        said = [" ".join(generator.choices(letters, k=generator.choice([0, 1, 5, 90]))) for _ in range(3)]
        rows.append([{"role": "user", "content": text} for text in said[: generator.randrange(4)]])
    messages = table(rows)["messages"]
    (whole,) = word_ngrams.of(messages, quick_hashes)
    ((parts, sizes),) = word_ngrams.said(messages)
    begun = word_beginnings.of(parts, sizes, 0.35)
    plain = ["".join(message["content"] for message in row).isascii() for row in rows]
    assert begun.rows.tolist() == np.flatnonzero(plain).tolist() and not all(plain)
    assert (begun.most >= whole.counts[begun.rows]).all()
    # No more than a word too many where one part ends and the next begins.
    assert (begun.most <= whole.counts[begun.rows] + sizes[begun.rows]).all()
    for row, (start, end) in zip(begun.rows.tolist(), pairwise(begun.words.offsets), strict=True):
        words = whole.hashes[whole.offsets[row] : whole.offsets[row + 1]].tolist()
        first = begun.words.hashes[start:end].tolist()
        assert first[:-1] == words[: max(0, len(first) - 1)] and len(first) <= len(words)
        assert len(first) >= 0.2 * len(words)
