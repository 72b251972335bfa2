"""Random ShareGPT conversations: the same seed gives the same file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft.core.files import replacing

# 2, 4 or 6 turns of some 60 words out of 20,000: 1.6 KB of text a row, which zstd makes 0.92 KB of.
VOCABULARY = 20_000
MOST_WORDS = 119
LEAST_WORDS = 5
MOST_QUESTIONS = 3
ROW_GROUP = 10_000
# The share of rows that repeat another one of their row group, every second of them with a word more.
COPIES = 0.01


def write(path: Path, rows: int, seed: int = 0) -> None:
    """Write `rows` rows to a zstd Parquet file in row groups of 10,000; no file is left half written."""
    random = np.random.default_rng(seed)
    letters = [random.integers(97, 123, random.integers(2, 10), np.uint8) for _ in range(VOCABULARY)]
    vocabulary = pa.array([word.tobytes().decode() for word in letters])
    with replacing(path) as temporary:
        writer = None
        for begin in range(0, rows, ROW_GROUP):
            table = _row_group(random, vocabulary, min(ROW_GROUP, rows - begin))
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
            writer.write_table(table)
        if writer:
            writer.close()


def _row_group(random: np.random.Generator, vocabulary: pa.Array, rows: int) -> pa.Table:
    turns = 2 * random.integers(1, MOST_QUESTIONS, rows, endpoint=True)
    words = random.integers(LEAST_WORDS, MOST_WORDS, turns.sum(), endpoint=True)
    said = vocabulary.take(pa.array(random.integers(0, VOCABULARY, words.sum())))
    texts = pc.binary_join(pa.ListArray.from_arrays(_offsets(words), said), " ")
    new = pa.ListArray.from_arrays(_offsets(turns), _spoken(texts))
    return pa.table(
        {
            "conversations": _with_copies(random, new),
            "score": random.random(rows),
            "source": pa.array(["made"] * rows),
        }
    )


def _with_copies(random: np.random.Generator, conversations: pa.ListArray) -> pa.ListArray:
    """Make some rows copies of others; of these copies every second one ends on a word more."""
    rows = len(conversations)
    origin = np.arange(rows)
    copies = np.flatnonzero(random.random(rows) < COPIES)
    origin[copies] = random.integers(0, rows, len(copies))
    taken = conversations.take(pa.array(origin))
    texts = taken.flatten().field("value")
    ends_on_more = np.zeros(len(texts), bool)
    ends_on_more[taken.offsets.to_numpy()[copies[::2] + 1] - 1] = True
    texts = pc.if_else(ends_on_more, pc.binary_join_element_wise(texts, "again", " "), texts)
    return pa.ListArray.from_arrays(taken.offsets, _spoken(texts))


def _spoken(texts: pa.Array) -> pa.StructArray:
    """Give texts their speakers; a conversation has an even number of turns."""
    speakers = pa.DictionaryArray.from_arrays(np.arange(len(texts), dtype=np.int32) % 2, ["human", "gpt"])
    return pa.StructArray.from_arrays([speakers.dictionary_decode(), texts], ["from", "value"])


def _offsets(lengths: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
