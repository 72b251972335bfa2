"""Choose the mix's members: data.size rows of base by seeded rank, then of extra, after the filters.

Reads data/standardized/ and data/holdout/evaluation.parquet. Writes data/mix.parquet, data/removed.parquet
(every row that was removed, with its reason) and metrics/mix.json.

Run as `python -m stages.mix`.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.files import read_parquet, write_json, write_parquet
from sft.core.params import section
from sft.core.schema import taken
from sft.mixing.mix import MixParams, filter_pool, members, pool, repeats
from stages.cli import run


def main(values: dict[str, Any]) -> None:
    """Remove duplicates, overlap and what the filters find; rank, and write the members in rank order."""
    params = section(values, "data", MixParams)
    base = read_parquet("data/standardized/base.parquet")
    extra = read_parquet("data/standardized/extra.parquet")
    print(f"ranking {len(base):,} rows of base and {len(extra):,} of extra ...", flush=True)
    ranked = pool(base["id"], extra["id"], params.seed, params.filters.overlap == "keep")
    removed = repeats(ranked, base, extra)
    if params.filters.active:
        ranked, found = filter_pool(ranked, base, extra, params)
        removed = pa.concat_tables([removed, found])
    from_base, from_extra = members(ranked, params.size)
    mix = pa.concat_tables([taken(base, from_base), taken(extra, from_extra)], promote_options="permissive")
    write_parquet("data/mix.parquet", mix)
    sorting = [(column, "ascending") for column in ("part", "filter", "id", "source")]
    write_parquet("data/removed.parquet", removed.sort_by(sorting))

    counted = pc.value_counts(mix["source"]).to_pylist()
    composition = dict(sorted((entry["values"], entry["counts"]) for entry in counted))
    metrics = {
        "rows": len(mix),
        "from_base": len(from_base),
        "from_extra": len(from_extra),
        "available": {"base": len(ranked.base), "extra": len(ranked.extra)},
        "removed": ranked.removed,
        "removed_by_source": by_source(removed),
        "composition": composition,
    }
    write_json("metrics/mix.json", metrics)
    print(f"mix      {len(mix):>9,} rows: {len(from_base):,} of base, {len(from_extra):,} of extra")
    print(
        f"removed  {ranked.removed['extra_in_base']:>9,} rows of extra that base has, and exact duplicates: ",
        end="",
    )
    print(f"{ranked.removed['base_duplicates']:,} in base, {ranked.removed['extra_duplicates']:,} in extra")
    for name in (*params.filters.active, "random"):
        if name in ranked.removed:
            print(f"removed  {ranked.removed[name]:>9,} rows by data.filters.{name}")
    for source, count in composition.items():
        print(f"  {source:<28} {count:>9,}  {count / len(mix):6.1%}")


def by_source(removed: pa.Table) -> dict[str, dict[str, int]]:
    """Count the removed rows by source and filter."""
    counts: dict[str, dict[str, int]] = {}
    grouped = removed.group_by(["source", "filter"]).aggregate([([], "count_all")])
    for entry in grouped.sort_by([("source", "ascending"), ("filter", "ascending")]).to_pylist():
        counts.setdefault(entry["source"], {})[entry["filter"]] = entry["count_all"]
    return counts


if __name__ == "__main__":
    run(main)
