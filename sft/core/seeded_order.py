"""Seeded ranks: an order that depends on nothing but the seed and each row's own id."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

CHUNK = 65_536  # ids that are Python objects at a time


def ranks(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Hash each id with the seed to a uint64, by xxh3_64 of `seed:id`."""
    prefix = pa.scalar(f"{seed}:".encode(), pa.large_binary())
    end = pa.scalar(b"", pa.large_binary())
    ranked = np.empty(len(ids), np.uint64)
    for start in range(0, len(ids), CHUNK):
        part = ids.slice(start, CHUNK).cast(pa.large_binary())
        # Joined by Arrow: text by text in Python takes more than twice as long.
        hashed = map(xxhash.xxh3_64_intdigest, pc.binary_join_element_wise(prefix, part, end).to_pylist())
        ranked[start : start + len(part)] = np.fromiter(hashed, np.uint64, len(part))
    return ranked


def order(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the row numbers sorted by seeded rank (equal ranks by id), whatever the order of `ids`."""
    return _sorted(ranks(seed, ids), ids)


def order_of_copies(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the row numbers as `order` does, but rank each further row of an id by itself.

    Copies then lie apart; in `order` they lie side by side. Without copies both are the same.
    """
    ranked = ranks(seed, ids)
    rows = np.argsort(ranked, kind="stable")
    alike = np.sort(rows[tied(ranked[rows])])  # all copies are among them
    if not len(alike):
        return rows
    times: Counter[str] = Counter()
    for row, text in zip(alike.tolist(), ids.take(pa.array(alike)).to_pylist(), strict=True):
        if times[text]:
            ranked[row] = xxhash.xxh3_64_intdigest(f"{seed}:{text}:{times[text]}".encode())
        times[text] += 1
    return _sorted(ranked, ids)


def _sorted(ranked: np.ndarray, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    rows = np.argsort(ranked, kind="stable")
    beside = tied(ranked[rows])
    if beside.any():
        of_tied = rows[beside]
        table = pa.table({"rank": ranked[of_tied], "id": ids.take(pa.array(of_tied))})
        by_id = pc.sort_indices(table, [("rank", "ascending"), ("id", "ascending")])
        rows[beside] = of_tied[by_id.to_numpy()]
    return rows


def tied(ascending: np.ndarray) -> np.ndarray:
    """Tell which of these numbers stand beside an equal one."""
    same = ascending[1:] == ascending[:-1]
    beside = np.zeros(len(ascending), bool)
    beside[1:] |= same
    beside[:-1] |= same
    return beside


def units(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Hash each id with the seed to a number in [0, 1)."""
    return ranks(seed, ids) / 2.0**64
