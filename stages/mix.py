"""Choose the mix's members: data.size rows of base by seeded rank, then of extra, after the filters.

Reads data/standardized/ and data/holdout/evaluation.parquet. Writes data/mix.parquet, data/removed.parquet
(every row that was removed, with its reason), metrics/mix.json and provenance/mix.json.

Run as `python -m stages.mix`.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.files import read_parquet, write_json, write_parquet
from sft.core.params import section
from sft.core.row_schema import take_rows
from sft.data.contamination import Examples
from sft.mixing.decontamination import contaminated
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

# Words of a run, for the share of an example that a row holds.
RUN = 8


@dataclass
class Contamination:
    """Rows of the mix that have something of an evaluation example.

    `exact` hold one whole, which standardize sees to: 0. `question_only` ask the same and answer otherwise.
    `over_half` hold more than half of one by runs of 8 words, as the filter decontaminate counts, and
    `largest_share` is the most that any row holds.
    """

    exact: int
    question_only: int
    over_half: int
    largest_share: float


@dataclass
class MixMetrics:
    """What metrics/mix.json holds: rows by where they come from, what was removed, and contamination."""

    rows: int
    from_base: int
    from_extra: int
    available_base: int
    available_extra: int
    removed_duplicates: int
    removed_overlap: int
    removed_by_filters: int
    contamination: Contamination


@dataclass
class MixProvenance:
    """What provenance/mix.json holds: rows removed by filter, and by source; rows by source and by kind."""

    removed: dict[str, int]
    removed_by_source: dict[str, dict[str, int]]
    sources: dict[str, int]
    kinds: dict[str, int]


def main(values: dict[str, Any]) -> None:
    """Remove duplicates, overlap and what the filters select; rank; write the members in rank order."""
    params = section(values, "data", MixParams)
    base = read_parquet(paths.BASE)
    extra = read_parquet(paths.EXTRA)
    examples = read_parquet(paths.EVALUATION)
    print(f"ranking {len(base):,} rows of base and {len(extra):,} of extra ...", flush=True)
    pool, removed = left_after_filters(base, extra, examples, params)
    from_base, from_extra = choose_members(pool, params.size)
    rows = [take_rows(base, from_base), take_rows(extra, from_extra)]
    mix = pa.concat_tables(rows, promote_options="permissive")
    write_parquet(paths.MIX, with_kinds(mix, base, extra, pool))
    sorting = [(column, "ascending") for column in ("part", "filter", "id", "source")]
    write_parquet(paths.REMOVED, removed.sort_by(sorting))
    counts = pool.removed
    duplicates, overlap = counts["base_duplicates"] + counts["extra_duplicates"], counts["extra_in_base"]
    metrics = MixMetrics(
        rows=len(mix),
        from_base=len(from_base),
        from_extra=len(from_extra),
        available_base=len(pool.base),
        available_extra=len(pool.extra),
        removed_duplicates=duplicates,
        removed_overlap=overlap,
        removed_by_filters=sum(counts.values()) - duplicates - overlap,
        contamination=contamination(mix, examples),
    )
    provenance = MixProvenance(
        removed=counts,
        removed_by_source=by_source(removed),
        sources=sorted_counts(mix["source"]),
        kinds=sorted_counts(mix["kind"]),
    )
    write_json(paths.METRICS_MIX, asdict(metrics))
    write_json(paths.PROVENANCE_MIX, asdict(provenance))
    print_summary(metrics, provenance, params)


def with_kinds(mix: pa.Table, base: pa.Table, extra: pa.Table, pool: Pool) -> pa.Table:
    """Add to the mix's schema all kinds that there are, with the rows that the largest mix has of each."""
    kinds = dict.fromkeys([*pc.unique(base["kind"]).to_pylist(), *pc.unique(extra["kind"]).to_pylist()], 0)
    for rows, left in ((base, pool.base), (extra, pool.extra)):
        for kind, count in sorted_counts(rows["kind"].take(pa.array(left))).items():
            kinds[kind] += count
    return mix.replace_schema_metadata({"kinds": json.dumps(kinds, sort_keys=True)})


def contamination(mix: pa.Table, examples: pa.Table) -> Contamination:
    """Count what of the evaluation examples the mix has."""
    found = Examples(examples).matches(mix)
    held = contaminated(mix["messages"], examples, RUN)
    return Contamination(
        exact=int(found.exact.sum()),
        question_only=int(found.question_only.sum()),
        over_half=int(held.removed.sum()),
        largest_share=round(float(held.share.max()), 4),
    )


def left_after_filters(
    base: pa.Table, extra: pa.Table, examples: pa.Table, params: MixParams
) -> tuple[Pool, pa.Table]:
    """Rank the rows without duplicates, overlap and what the filters remove; return them and the removed."""
    pool = rank_pool(base["id"], extra["id"], params.seed, params.filters.overlap == "keep")
    duplicates = removed_duplicates(pool, base, extra)
    if not params.filters.active:
        return pool, duplicates
    pool, removed = filter_pool(pool, base, extra, params, examples)
    return pool, pa.concat_tables([duplicates, removed])


def by_source(removed: pa.Table) -> dict[str, dict[str, int]]:
    """Count the removed rows by source and filter."""
    counts: dict[str, dict[str, int]] = {}
    grouped = removed.group_by(["source", "filter"]).aggregate([([], "count_all")])
    for entry in grouped.sort_by([("source", "ascending"), ("filter", "ascending")]).to_pylist():
        counts.setdefault(entry["source"], {})[entry["filter"]] = entry["count_all"]
    return counts


def sorted_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Count the rows by what is in a column, sorted; none is null."""
    return dict(sorted((entry["values"], entry["counts"]) for entry in pc.value_counts(column).to_pylist()))


def print_summary(metrics: MixMetrics, provenance: MixProvenance, params: MixParams) -> None:
    """Print how many rows the mix has, what was removed, each kind's share, and contamination."""
    removed, found = provenance.removed, metrics.contamination
    print(
        f"mix      {metrics.rows:>9,} rows: {metrics.from_base:,} of base, {metrics.from_extra:,} of extra\n"
        f"removed  {removed['extra_in_base']:>9,} rows of extra that base has, and exact duplicates: "
        f"{removed['base_duplicates']:,} in base, {removed['extra_duplicates']:,} in extra"
    )
    for name in (*params.filters.active, "random"):
        if name in removed:
            print(f"removed  {removed[name]:>9,} rows by data.filters.{name}")
    for kind, count in provenance.kinds.items():
        print(f"  {kind:<28} {count:>9,}  {count / metrics.rows:6.1%}")
    print(
        f"contaminated {found.exact:>5,} rows hold an evaluation example; {found.question_only:,} have its "
        f"question and another answer, {found.over_half:,} more than half of its words, by runs of {RUN}"
    )


if __name__ == "__main__":
    run(main)
