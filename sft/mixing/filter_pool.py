"""The filters applied to the whole pool, shard by shard."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft.core.errors import ParamError
from sft.core.files import read_parquet
from sft.core.workers import Workers
from sft.mixing.filters import Examples, FilterParams, filtered
from sft.mixing.pool import Rows, Shard

SCORE = "score"


@dataclass(frozen=True)
class PoolShard:
    """A shard of the pool as filters read it; `scored` tells whether they ask for scores."""

    base: Rows
    extra: Rows
    scored: bool

    def read(self) -> pa.Table:
        """Return its rows: messages, id, part, source, rank and, where they are asked for, scores."""
        parts = []
        for name, rows in (("base", self.base), ("extra", self.extra)):
            table = read_parquet(rows.path, ["messages", "id", "source"]).take(pa.array(rows.number))
            table = table.append_column("part", pa.repeat(pa.scalar(name, pa.string()), len(table)))
            parts.append(table.append_column("rank", pa.array(rows.rank)))
        table = pa.concat_tables(parts)
        return table.append_column(SCORE, self._scores(table["id"])) if self.scored else table

    def _scores(self, ids: pa.ChunkedArray) -> pa.Array:
        """Return each id's score: the highest of its copies, null where the sources bring none."""
        scored = []
        for path in (self.base.path, self.extra.path):
            if SCORE in pq.read_schema(path).names:
                rows = read_parquet(path, ["id", SCORE])
                score = rows[SCORE].cast(pa.float64(), safe=False)
                scored.append(pa.table({"id": rows["id"], SCORE: score}))
        best = pa.concat_tables(scored).group_by("id").aggregate([(SCORE, "max")])
        place = pc.index_in(ids, value_set=best["id"].combine_chunks())
        return best[f"{SCORE}_max"].combine_chunks().take(place.combine_chunks())


def filter_pool(
    pool: Sequence[Shard],
    params: FilterParams,
    seed: int,
    workers: Workers,
    scratch: Path,
    examples: Examples = None,
) -> list[Shard]:
    """Apply the filters; return what is left, with what they removed among the removed rows and counts.

    `examples` are the evaluation's, which the filter decontaminate compares with. `scratch` is a folder that
    the workers see, for what is needed meanwhile.
    Raises UserError for a filter that the rows cannot answer to.
    """
    scored = params.min_score != "none"
    if scored:
        _check_scores(pool)
    of_filters = [PoolShard(shard.base, shard.extra, scored) for shard in pool]
    removed = filtered(of_filters, params, seed, examples, workers.map, scratch)
    on = ["random"] if params.random else params.active
    left = []
    for shard, gone in zip(pool, removed, strict=True):
        by_filter = Counter(gone["filter"].to_pylist())
        counts = Counter({**shard.counts, **{name: by_filter[name] for name in on}})
        parts = [
            rows.take(_stay(rows, gone, name))
            for name, rows in (("base", shard.base), ("extra", shard.extra))
        ]
        left.append(Shard(parts[0], parts[1], pa.concat_tables([shard.removed, gone]), counts))
    return left


def _stay(rows: Rows, removed: pa.Table, part: str) -> np.ndarray:
    ids = removed["id"].filter(pc.equal(removed["part"], part))
    if not len(ids):
        return np.ones(len(rows), bool)
    of_rows = read_parquet(rows.path, ["id"])["id"].take(pa.array(rows.number))
    return ~np.asarray(pc.is_in(of_rows, value_set=ids.combine_chunks()))


def _check_scores(pool: Sequence[Shard]) -> None:
    """Raise ParamError where no part has scores, or where they are no numbers."""
    found = False
    for name, path in (("base", pool[0].base.path), ("extra", pool[0].extra.path)):
        schema = pq.read_schema(Path(path))
        if SCORE not in schema.names:
            continue
        found, kind = True, schema.field(SCORE).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise ParamError(
                f"data.filters.min_score: the column score of data.{name} holds {kind}, no "
                "numbers. Mend the source, or set data.filters.min_score to none."
            )
    if not found:
        raise ParamError(
            "data.filters.min_score: no source of data.base or data.extra brings a column named "
            "score. Name a source that does, or set data.filters.min_score to none."
        )
