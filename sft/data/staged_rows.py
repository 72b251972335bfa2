"""Rows of staged sources, from the disk: some by their numbers, or all to be compared."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core import shards
from sft.core.row_schema import SCHEMA
from sft.core.workers import Workers
from sft.data.contamination import Examples, Matches
from sft.data.staged_sources import Staged
from sft.data.staging import SEQ, SOURCE_SHIFT, Piece, among, fetch


def rows_of(staged: Staged, seqs: pa.ChunkedArray, columns: Sequence[str], workers: Workers) -> pa.Table:
    """Return rows of a source by their `seq`, in this order: the columns that they have of `columns`."""
    wanted = np.unique(seqs.to_numpy())
    schema = pa.schema([staged.schema.field(name) for name in columns if name in staged.schema.names])
    if not len(wanted):
        return schema.empty_table()
    ids = staged.light["id"].filter(pc.is_in(staged.light[SEQ], value_set=pa.array(wanted)))
    bits = staged.pieces[0].bits
    only = np.unique(shards.number_of(shards.keys(ids)[0], bits)).tolist()
    found = workers.map(partial(fetch, seqs=wanted, only=only, columns=columns), staged.pieces)
    table = pa.concat_tables([one for one in found if one is not None], promote_options="permissive")
    order = pc.index_in(seqs.combine_chunks(), value_set=table[SEQ].combine_chunks())
    return table.drop_columns([SEQ]).take(order)


def whole(rows: pa.Table, staged: dict[str, Staged], columns: Sequence[str], workers: Workers) -> pa.Table:
    """Return rows of any sources with the messages and all else that is on the disk, in their order.

    The columns that they have already stay as they are.
    """
    numbers = rows[SEQ].to_numpy() >> SOURCE_SHIFT
    tables, places = (
        [pa.schema([SCHEMA.field(name) for name in columns]).empty_table()],
        [np.zeros(0, np.int64)],
    )
    for number, source in enumerate(staged.values()):
        place = np.flatnonzero(numbers == number)
        if len(place):
            tables.append(rows_of(source, rows[SEQ].take(pa.array(place)), columns, workers))
            places.append(place)
    table = pa.concat_tables(tables, promote_options="permissive")
    table = table.take(pa.array(np.argsort(np.concatenate(places), kind="stable")))
    for name in set(columns) & set(rows.column_names):
        table = table.set_column(
            columns.index(name), SCHEMA.field(name), rows[name].cast(SCHEMA.field(name).type)
        )
    return table


def matches(staged: Staged, examples: Examples, workers: Workers) -> Matches:
    """Compare all rows of a source with the evaluation examples."""
    found = list(workers.map(partial(_matches, examples=examples), staged.pieces))
    masks = []
    for reason in range(3):
        seqs = np.concatenate([np.zeros(0, np.int64), *(one[reason] for one in found)])
        masks.append(among(staged.light[SEQ], np.sort(seqs)))
    return Matches(*masks)


def _matches(piece: Piece, examples: Examples) -> list[np.ndarray]:
    """Return the `seq` of the rows that have an example's id, its question and answer, its question only."""
    found: list[list[np.ndarray]] = [[], [], []]
    for batch in piece.all_batches():
        one = examples.matches(pa.Table.from_batches([batch]))
        seq = batch[SEQ].to_numpy()
        for seqs, mask in zip(found, (one.same_id, one.question_and_answer, one.question_only), strict=True):
            seqs.append(seq[mask])
    return [np.concatenate([np.zeros(0, np.int64), *seqs]) for seqs in found]
