"""Choose the mix's members: data.size rows of base by seeded rank, then of extra, after the filters.

Reads data/standardized/ and data/holdout/evaluation.parquet. Writes data/mix.parquet, data/removed.parquet
(every row that was removed, with its reason) and metrics/mix.json.

Run as `python -m stages.mix`.
"""

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.files import read_parquet, write_json, write_parquet
from sft.core.params import section
from sft.core.row_schema import take_rows
from sft.mixing.mix import (
    MixParams,
    Pool,
    choose_members,
    filter_pool,
    rank_pool,
    removed_duplicates,
)
from stages import paths
from stages.cli import run


@dataclass
class MixMetrics:
    """What metrics/mix.json holds: rows by where they come from, and what was removed by which filter."""

    rows: int
    from_base: int
    from_extra: int
    available: dict[str, int]
    removed: dict[str, int]
    removed_by_source: dict[str, dict[str, int]]
    composition: dict[str, int]


def main(values: dict[str, Any]) -> None:
    """Remove duplicates, overlap and what the filters select; rank; write the members in rank order."""
    params = section(values, "data", MixParams)
    base = read_parquet(paths.BASE)
    extra = read_parquet(paths.EXTRA)
    print(f"ranking {len(base):,} rows of base and {len(extra):,} of extra ...", flush=True)
    pool, removed = left_after_filters(base, extra, params)
    from_base, from_extra = choose_members(pool, params.size)
    rows = [take_rows(base, from_base), take_rows(extra, from_extra)]
    mix = pa.concat_tables(rows, promote_options="permissive")
    write_parquet(paths.MIX, mix)
    sorting = [(column, "ascending") for column in ("part", "filter", "id", "source")]
    write_parquet(paths.REMOVED, removed.sort_by(sorting))
    metrics = MixMetrics(
        rows=len(mix),
        from_base=len(from_base),
        from_extra=len(from_extra),
        available={"base": len(pool.base), "extra": len(pool.extra)},
        removed=pool.removed,
        removed_by_source=by_source(removed),
        composition=composition(mix),
    )
    write_json(paths.METRICS_MIX, asdict(metrics))
    print_summary(metrics, params)


def left_after_filters(base: pa.Table, extra: pa.Table, params: MixParams) -> tuple[Pool, pa.Table]:
    """Rank the rows without duplicates, overlap and what the filters remove; return them and the removed."""
    pool = rank_pool(base["id"], extra["id"], params.seed, params.filters.overlap == "keep")
    duplicates = removed_duplicates(pool, base, extra)
    if not params.filters.active:
        return pool, duplicates
    examples = read_parquet(paths.EVALUATION) if "decontaminate" in params.filters.active else None
    pool, removed = filter_pool(pool, base, extra, params, examples)
    return pool, pa.concat_tables([duplicates, removed])


def by_source(removed: pa.Table) -> dict[str, dict[str, int]]:
    """Count the removed rows by source and filter."""
    counts: dict[str, dict[str, int]] = {}
    grouped = removed.group_by(["source", "filter"]).aggregate([([], "count_all")])
    for entry in grouped.sort_by([("source", "ascending"), ("filter", "ascending")]).to_pylist():
        counts.setdefault(entry["source"], {})[entry["filter"]] = entry["count_all"]
    return counts


def composition(mix: pa.Table) -> dict[str, int]:
    """Count the mix's rows by source."""
    counts = pc.value_counts(mix["source"]).to_pylist()
    return dict(sorted((entry["values"], entry["counts"]) for entry in counts))


def print_summary(metrics: MixMetrics, params: MixParams) -> None:
    """Print how many rows the mix has, what was removed, and each source's share."""
    removed = metrics.removed
    print(
        f"mix      {metrics.rows:>9,} rows: {metrics.from_base:,} of base, {metrics.from_extra:,} of extra\n"
        f"removed  {removed['extra_in_base']:>9,} rows of extra that base has, and exact duplicates: "
        f"{removed['base_duplicates']:,} in base, {removed['extra_duplicates']:,} in extra"
    )
    for name in (*params.filters.active, "random"):
        if name in removed:
            print(f"removed  {removed[name]:>9,} rows by data.filters.{name}")
    for source, count in metrics.composition.items():
        print(f"  {source:<28} {count:>9,}  {count / metrics.rows:6.1%}")


if __name__ == "__main__":
    run(main)
