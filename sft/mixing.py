"""Which rows are members of a mix: nested by seeded rank, with duplicates and overlap removed first."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.errors import UserError
from sft.params import Count
from sft.ranking import order


@dataclass
class MixParams:
    """`data`: how many rows the mix has, and the seed that ranks them."""

    size: Count
    seed: int


@dataclass
class Pool:
    """Row numbers of base and extra in rank order, after removal, and how many were removed."""

    base: np.ndarray
    extra: np.ndarray
    removed: dict[str, int]


def pool(base_ids: pa.ChunkedArray, extra_ids: pa.ChunkedArray, seed: int) -> Pool:
    """Remove exact duplicates, and rows of extra that base has; rank what is left by hash(seed, id)."""
    base = _first_of_each(base_ids)
    extra = _first_of_each(extra_ids)
    distinct = len(extra)
    in_base = pc.is_in(extra_ids.take(pa.array(extra)), value_set=pc.unique(base_ids))
    extra = extra[~np.asarray(in_base)]
    removed = {
        "base_duplicates": len(base_ids) - len(base),
        "extra_duplicates": len(extra_ids) - distinct,
        "extra_in_base": distinct - len(extra),
    }
    ranked = [
        rows[order(seed, ids.take(pa.array(rows)))] for rows, ids in ((base, base_ids), (extra, extra_ids))
    ]
    return Pool(ranked[0], ranked[1], removed)


def members(pool: Pool, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Take the first `size` rows: of base, then of extra. A smaller size is a part of a larger one.

    Raises UserError where there are not that many.
    """
    available = len(pool.base) + len(pool.extra)
    if size > available:
        raise UserError(
            f"params.yaml: data.size: {size:,} rows are asked for, but there are {available:,} "
            f"({len(pool.base):,} of base and {len(pool.extra):,} of extra, after duplicates and overlap). "
            f"Ask for {available:,} at most, or add a source to data.extra."
        )
    return pool.base[:size], pool.extra[: max(0, size - len(pool.base))]


def _first_of_each(ids: pa.ChunkedArray) -> np.ndarray:
    """Return the row number of each id's first occurrence, ascending."""
    numbered = pa.table({"id": ids, "row": np.arange(len(ids))})
    first = numbered.group_by("id", use_threads=False).aggregate([("row", "min")])["row_min"]
    return np.sort(first.to_numpy())
