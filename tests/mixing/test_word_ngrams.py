"""Words are those of a plain splitting of the normalized text, with its hashes."""

import random
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from sft.mixing import word_ngrams
from sft.mixing.known_hashes import KnownHashes
from sft.mixing.string_hashes import PADDING, xxh3_64
from tests.tiny import dialogue, table

# What changes when letters are normalized, apart or together, among what does not.
PIECES = [
    *"aB9 =<-_'\n", "é", "E\u0301", "H\u0331", "\u0338", "\u0327", "½", "²", "你", "カ", "㌖", "ﷺ", "ก", "\u00a0",
    "🙂", "ß", "İ", "．", "Ａ", "\u3000", "ﬁ", "русский", "\u200d", "한", "\u1100", "\u1161", "٣", "word",
    "MoreThanSixteenLetters",
]  # fmt: skip
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=6)


def plain(text: str) -> list[str]:
    """Split a text as its description says, by Arrow's normalization and regular expressions."""
    lower = pc.utf8_lower(pc.utf8_normalize(pa.array([text]), "NFKC"))
    apart = pc.replace_substring_regex(lower, word_ngrams._APART, r" \1 ")
    return pc.replace_substring_regex(apart, r"[^\p{L}\p{M}\p{N}]+", " ")[0].as_py().split(" ")


def hashes(words: list[str]) -> list[int]:
    return [xxhash.xxh3_64_intdigest(word.encode()) for word in words if word]


@given(TEXTS)
def test_words_are_those_of_the_normalized_text(texts: list[str]) -> None:
    words = word_ngrams.split(pa.array(texts, pa.string()))
    for text, first, last in zip(texts, words.offsets[:-1], words.offsets[1:], strict=True):
        assert words.hashes[first:last].tolist() == hashes(plain(text))
    assert len(words) == len(texts)


@given(TEXTS, st.data())
def test_messages_are_apart(texts: list[str], data: st.DataObject) -> None:
    """Each message's words are its own, whatever the next begins with, and a system's do not count."""
    roles = [data.draw(st.sampled_from(["user", "assistant", "system"])) for _ in texts]
    rows = [[{"role": role, "content": text}] for role, text in zip(roles, texts, strict=True)]
    rows = [sum(rows, []), [], *rows]
    messages = table(rows)["messages"]
    expected = [
        hashes([word for message in row if message["role"] != "system" for word in plain(message["content"])])
        for row in rows
    ]
    (words,) = word_ngrams.of(messages)
    found = [words.hashes[a:b].tolist() for a, b in zip(words.offsets[:-1], words.offsets[1:], strict=True)]
    assert found == expected
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


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1))
def test_hashes_are_those_of_xxhash(strings: list[bytes]) -> None:
    data = np.frombuffer(b"".join(strings) + bytes(PADDING), np.uint8)
    size = np.array([len(of) for of in strings])
    expected = [xxhash.xxh3_64_intdigest(of) for of in strings]
    assert xxh3_64(data, np.cumsum(size) - size, size).tolist() == expected


def test_batches_follow_one_another() -> None:
    rows = [dialogue(f"w{n}", "a b"[: n % 4]) for n in range(2_500)]
    counted = [len(re.findall(r"\w+", " ".join(message["content"] for message in row))) for row in rows]
    assert word_ngrams.counts(table(rows)["messages"]).tolist() == counted
    assert np.concatenate([of.counts for of in word_ngrams.of(table(rows)["messages"])]).tolist() == counted


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
    expected = {(row, int(np.uint64(value) * spread)) for row, value in others if value in ours}
    assert set(of_rows) == expected and len(of_rows) == len(expected)
