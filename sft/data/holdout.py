"""Holding out items before anything else sees them: which rows they take along, and those for validation.

The unit is the item (what an answer is made from), so no other form of a held-out recipe, word or dialogue
stays among the training rows. Nor does a row that gives away the same as a held-out item (`related`): of a
word these are the other words that have one of its glosses. That is one step: what else such a row gives
away is not held out for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError
from sft.core.params import Count, Integer, Params, Share
from sft.core.row_schema import HOLDOUT_ONLY, SCHEMA
from sft.core.seeded_order import order, ranks, tied, units
from sft.core.shards import keys
from sft.data import arrays


class HoldoutParams(Params):
    """`data.holdout`: the seed of all that is held out, the share of base's items for validation, and the
    rows that there are at least: of every task that is trained on, and of base's sources without a task.
    """

    seed: Integer
    validation: Share
    validation_per_task: Count


VALIDATION = [name for name in SCHEMA.names if name not in HOLDOUT_ONLY]


@dataclass
class Split:
    """Rows of base and of extra, which of them stay to be trained on, and those held out for validation.

    `for_validation_per_task` counts the rows that would be trained on if only the share were held out.
    """

    of_base: pa.Table
    of_extra: pa.Table
    base_stays: np.ndarray
    extra_stays: np.ndarray
    validation: pa.Table
    for_validation_per_task: int

    @property
    def base(self) -> pa.Table:
        """Return the rows of base that stay."""
        return under(self.of_base, self.base_stays)

    @property
    def extra(self) -> pa.Table:
        """Return the rows of extra that stay."""
        return under(self.of_extra, self.extra_stays)


def given_away(items: pa.Array | pa.ChunkedArray, tables: Iterable[pa.Table]) -> pa.Array:
    """Return these items with all that their rows in `tables` give away besides: what leaves with them."""
    items = pc.unique(items)
    parts = [items]
    for rows in tables:
        if rows["related"].null_count < len(rows):
            parts.append(_flat(rows["related"].filter(pc.is_in(rows["item"], value_set=items))))
    return pc.unique(pa.concat_arrays(parts))


def under(rows: pa.Table, mask: np.ndarray) -> pa.Table:
    """Return the rows under a mask; ids that are the items too stay in the memory once, nulls take none."""
    if not len(rows):
        return rows
    empty = [name for name in rows.column_names if rows[name].null_count == len(rows)]
    pairs = zip(rows["id"].chunks, rows["item"].chunks, strict=False)
    same = rows["item"].num_chunks == rows["id"].num_chunks and all(one.equals(other) for one, other in pairs)
    found = rows.drop_columns(["item"] * same + empty).filter(pa.array(mask))
    columns = {name: arrays.nulls(len(found), rows.schema.field(name).type) for name in empty}
    if same:
        columns["item"] = found["id"]
    return pa.table({**columns, **dict(zip(found.column_names, found.columns, strict=True))}).select(
        rows.column_names
    )


def gives_away(rows: pa.Table, held: pa.Array) -> np.ndarray:
    """Mark the rows whose item is among `held`, or anything else that they give away."""
    out = np.asarray(pc.is_in(rows["item"], value_set=held))
    if rows["related"].null_count < len(rows):
        sizes = np.asarray(pc.fill_null(pc.list_value_length(rows["related"]), 0))
        hits = np.asarray(pc.is_in(_flat(rows["related"]), value_set=held))
        out |= np.bincount(np.repeat(np.arange(len(rows)), sizes)[hits], minlength=len(rows)) > 0
    return out


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    flat = pc.list_flatten(lists)
    return flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat


def split(
    base: pa.Table,
    extra: pa.Table,
    forms: Mapping[str, pa.Table],
    params: HoldoutParams,
    others: Sequence[pa.Table] = (),
) -> Split:
    """Take validation items out of base and extra; evaluation items are out already.

    Rows have id, item, task and related at least; that they have no messages does no harm.
    `forms` are the rows of the form of each task that is trained on, by the task's name; `others` those of
    each of base's sources that no task is made from. Held out are the share of base's items, and so many more
    that `validation_per_task` distinct rows are there of each task, or a quarter of what it has, and of each
    other source, or a tenth of it. An item with which they would have more than half is not held out for it.
    All by the same seeded hash. Raises ParamError where nothing of base is left.
    """
    seed = f"{params.seed}:validation"
    # Hashed by row: the different items of millions of rows would be in memory once more.
    shared = pc.unique(_below(seed, base["item"], params.validation))
    chosen = [shared]
    for rows, part in [*((rows, 4) for rows in forms.values()), *((rows, 10) for rows in others)]:
        distinct = first_of_each(rows["id"])
        size = int(distinct.sum())
        wanted = min(params.validation_per_task, max(size // part, min(1, size - 1)))
        chosen.append(_enough(seed, rows["item"], distinct, wanted))
    items = pc.unique(pa.concat_arrays(chosen))
    tables = [base, extra, *forms.values()]
    held, by_share = given_away(items, tables), given_away(shared, tables)
    columns = [name for name in base.column_names if name not in HOLDOUT_ONLY]
    parts = [_of_task(_of_items(rows.select(columns), items), name) for name, rows in forms.items()]
    parts.append(_of_items(base.select(columns), items))
    validation = pa.concat_tables(parts, promote_options="permissive")
    validation = validation.filter(pa.array(first_of_each(validation["id"])))
    left = Split(base, extra, ~gives_away(base, held), ~gives_away(extra, held), validation, 0)
    for rows, stays in ((base, left.base_stays), (extra, left.extra_stays)):
        left.for_validation_per_task += int((~gives_away(rows, by_share) & ~stays).sum())
    if not left.base_stays.any():
        raise ParamError("data.holdout: nothing of data.base is left to train on. Lower the shares.")
    return left


def _below(seed: str, items: pa.ChunkedArray, share: float) -> pa.ChunkedArray:
    """Return the items that have a hash below this share of all hashes."""
    masks = [units(seed, chunk) < share for chunk in items.chunks]
    return items.filter(pa.array(np.concatenate([np.zeros(0, bool), *masks])))


def _of_items(rows: pa.Table, items: pa.Array) -> pa.Table:
    return rows.filter(pc.is_in(rows["item"], value_set=items))


def _enough(seed: str, items: pa.ChunkedArray, distinct: np.ndarray, wanted: int) -> pa.Array:
    """Return the first items by seeded hash that have `wanted` rows; `items` are those of all rows.

    Only `distinct` rows count. An item with which they would have more than half of the rows is passed over.
    """
    hashes = ranks(seed, items)
    size, looked = int(distinct.sum()), 1_000 + 10 * wanted
    while True:  # the lowest hashes do, but where items are passed over
        few = distinct
        if looked < len(hashes):
            few = distinct & (hashes <= np.partition(hashes, looked)[looked])
        counted = pc.value_counts(items.filter(pa.array(few)))
        unique, counts = counted.field("values"), counted.field("counts").to_numpy()
        chosen: list[int] = []
        held = 0
        for place in order(seed, unique):
            if held >= wanted:
                break
            if held + counts[place] <= size // 2:
                chosen.append(place)
                held += int(counts[place])
        if held >= wanted or looked >= len(hashes):
            return unique.take(pa.array(chosen, pa.int64()))
        looked *= 100


def _of_task(rows: pa.Table, name: str) -> pa.Table:
    """Return a task's rows as validation has them: marked with its name."""
    return rows.set_column(rows.column_names.index("task"), "task", pa.repeat(name, len(rows)))


def first_of_each(ids: pa.ChunkedArray) -> np.ndarray:
    """Mark each id's first row."""
    half, _ = keys(ids)
    order = np.argsort(half, kind="stable")
    alike = np.zeros(len(ids), bool)
    alike[order] = tied(half[order])
    # Only of these the other half is looked at: of most sources they are few.
    rows = np.flatnonzero(alike)
    one, other = keys(ids.filter(pa.array(alike)))
    order = np.lexsort((other, one))  # which keeps the order of equal ones
    first = np.ones(len(ids), bool)
    first[rows[order[1:]]] = (one[order[1:]] != one[order[:-1]]) | (other[order[1:]] != other[order[:-1]])
    return first
