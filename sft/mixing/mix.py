"""Which rows are members of a mix: nested by seeded rank; duplicates, overlap and filtered rows go first."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError
from sft.core.params import Count, Integer, Params
from sft.core.row_schema import take_rows
from sft.core.seeded_order import order
from sft.mixing.filters import Examples, FilterParams, filtered
from sft.mixing.near_duplicates import Rows
from sft.mixing.removal import REMOVED


class MixParams(Params):
    """`data`: how many rows the mix has or all, the seed that ranks them, and the filters before."""

    size: Literal["all"] | Count
    seed: Integer
    filters: FilterParams


@dataclass
class Pool:
    """Row numbers of base and extra in rank order, after removal, and how many were removed."""

    base: np.ndarray
    extra: np.ndarray
    removed: dict[str, int]


def rank_pool(
    base_ids: pa.ChunkedArray, extra_ids: pa.ChunkedArray, seed: int, keep_overlap: bool = False
) -> Pool:
    """Remove exact duplicates, and rows of extra that base has; rank what is left by hash(seed, id).

    With `keep_overlap` the rows that base has stay in extra, to see what they do.
    """
    base = _first_of_each(base_ids)
    extra = _first_of_each(extra_ids)
    distinct = len(extra)
    in_base = pc.is_in(extra_ids.take(pa.array(extra)), value_set=pc.unique(base_ids))
    if not keep_overlap:
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


def removed_duplicates(pool: Pool, base: pa.Table, extra: pa.Table) -> pa.Table:
    """List the rows that `rank_pool` removed, as a table of filters.REMOVED.

    Each matches the one row of its id.
    """
    tables = []
    base_ids = pc.unique(base["id"])
    for part, rows, kept in (("base", base, pool.base), ("extra", extra, pool.extra)):
        gone = np.ones(len(rows), bool)
        gone[kept] = False
        ids, sources = (rows[column].filter(pa.array(gone)) for column in ("id", "source"))
        names = np.full(len(ids), f"{part}_duplicates", object)
        reasons = np.full(len(ids), "the same text is in the sources more than once", object)
        if part == "extra":
            # The first of each id that base has is overlap; its other copies are duplicates, as counted.
            first = np.zeros(len(ids), bool)
            first[_first_of_each(ids)] = True
            first[np.asarray(pc.is_in(ids, value_set=extra["id"].take(pa.array(kept))))] = False
            overlap = first & np.asarray(pc.is_in(ids, value_set=base_ids))
            names[overlap], reasons[overlap] = "extra_in_base", "base has the same text"
        columns = [ids, pa.array([part] * len(ids), pa.string()), sources, pa.array(names, pa.string())]
        tables.append(pa.table([*columns, pa.array(reasons, pa.string()), ids], schema=REMOVED))
    return pa.concat_tables(tables)


def filter_pool(
    pool: Pool, base: pa.Table, extra: pa.Table, params: MixParams, examples: Examples = None
) -> tuple[Pool, pa.Table]:
    """Apply the filters to the whole pool; return what is left of it, and the removed rows.

    `examples` are the evaluation's, which the filter decontaminate compares with.
    Raises UserError for a filter that the rows cannot answer to.
    """
    columns = ["messages", "id", "source"]
    parts = [take_rows(base.select(columns), pool.base), take_rows(extra.select(columns), pool.extra)]
    rows = pa.concat_tables(parts)
    names = ["base"] * len(pool.base) + ["extra"] * len(pool.extra)
    rows = rows.append_column("part", pa.array(names, pa.string()))
    if params.filters.min_score != "none":
        rows = rows.append_column("score", _scores(rows["id"], base, extra))
    rows = rows.append_column("rank", pa.array(np.arange(len(rows), dtype=np.uint64)))
    removed = pa.concat_tables(filtered([Rows(rows)], params.filters, params.seed, examples))
    keys = [pc.binary_join_element_wise(table["part"], table["id"], ":") for table in (rows, removed)]
    kept = np.flatnonzero(pc.invert(pc.is_in(keys[0], value_set=keys[1])).to_numpy())
    boundary = len(pool.base)
    counts = dict(Counter(removed["filter"].to_pylist()))
    on = ["random"] if params.filters.random else params.filters.active
    left = Pool(
        pool.base[kept[kept < boundary]],
        pool.extra[kept[kept >= boundary] - boundary],
        {**pool.removed, **{name: counts.get(name, 0) for name in on}},
    )
    return left, removed


def _scores(ids: pa.ChunkedArray, base: pa.Table, extra: pa.Table) -> pa.Array:
    """Return each id's score: the highest of its copies, null where the sources bring none."""
    scored = []
    for name, rows in (("base", base), ("extra", extra)):
        if "score" in rows.column_names:
            kind = rows["score"].type
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
                raise ParamError(
                    f"data.filters.min_score: the column score of data.{name} holds {kind}, no "
                    "numbers. Mend the source, or set data.filters.min_score to none."
                )
            scored.append(pa.table({"id": rows["id"], "score": rows["score"].cast(pa.float64(), safe=False)}))
    if not scored:
        raise ParamError(
            "data.filters.min_score: no source of data.base or data.extra brings a column named "
            "score. Name a source that does, or set data.filters.min_score to none."
        )
    best = pa.concat_tables(scored).group_by("id").aggregate([("score", "max")])
    return best["score_max"].combine_chunks().take(pc.index_in(ids, value_set=best["id"].combine_chunks()))


def choose_members(pool: Pool, size: int | Literal["all"]) -> tuple[np.ndarray, np.ndarray]:
    """Take the first `size` rows, or all: of base, then of extra. A smaller size is a part of a larger one.

    Raises UserError where there are not that many.
    """
    available = len(pool.base) + len(pool.extra)
    if size == "all":
        return pool.base, pool.extra
    if size > available:
        raise ParamError(
            f"data.size: {size:,} rows are asked for, but there are {available:,} "
            f"({len(pool.base):,} of base and {len(pool.extra):,} of extra, after duplicates, overlap "
            f"and data.filters). Ask for {available:,} at most or for all, add a source to data.extra, or "
            "loosen a filter."
        )
    return pool.base[:size], pool.extra[: max(0, size - len(pool.base))]


def _first_of_each(ids: pa.ChunkedArray) -> np.ndarray:
    """Return the row number of each id's first occurrence, ascending."""
    numbered = pa.table({"id": ids, "row": np.arange(len(ids))})
    first = numbered.group_by("id", use_threads=False).aggregate([("row", "min")])["row_min"]
    return np.sort(first.to_numpy())
