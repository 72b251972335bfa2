"""Seeded ranks: an order that depends on nothing but the seed and each row's own id."""

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
    table = pa.table({"rank": ranks(seed, ids), "id": ids})
    return pc.sort_indices(table, [("rank", "ascending"), ("id", "ascending")]).to_numpy()


def units(seed: int | str, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Hash each id with the seed to a number in [0, 1)."""
    return ranks(seed, ids) / 2.0**64
