"""Seeded ranks: an order that depends on nothing but the seed and each row's own id."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash


def ranks(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Hash each id with the seed to a uint64, by xxh3_64 of `seed:id`."""
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(f"{seed}:{text}".encode()) for text in ids.to_pylist()), np.uint64, len(ids))


def order(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the row numbers sorted by seeded rank (equal ranks by id), whatever the order of `ids`."""
    return _sorted(ranks(seed, ids), ids)


def order_of_copies(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the row numbers as `order` does, but rank each further row of an id by itself.

    Copies then lie apart; in `order` they lie side by side. Without copies both are the same.
    """
    ranked = ranks(seed, ids)
    if pc.count_distinct(ids).as_py() < len(ids):
        times: Counter[str] = Counter()
        for row, text in enumerate(ids.to_pylist()):
            if times[text]:
                ranked[row] = xxhash.xxh3_64_intdigest(f"{seed}:{text}:{times[text]}".encode())
            times[text] += 1
    return _sorted(ranked, ids)


def _sorted(ranked: np.ndarray, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    table = pa.table({"rank": ranked, "id": ids})
    return pc.sort_indices(table, [("rank", "ascending"), ("id", "ascending")]).to_numpy()


def units(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Hash each id with the seed to a number in [0, 1)."""
    return ranks(seed, ids) / 2.0**64
