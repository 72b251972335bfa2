"""Choose the mix's members: data.size rows of base by seeded rank, then of extra.

Reads data/standardized/. Writes data/mix.parquet and metrics/mix.json.

Run as `python -m stages.mix`.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.command import run
from sft.files import read_parquet, write_json, write_parquet
from sft.mixing import MixParams, members, pool
from sft.params import section
from sft.rows import taken


def main(values: dict[str, Any]) -> None:
    """Remove duplicates and overlap, rank, take the members and write them in rank order."""
    params = section(values, "data", MixParams)
    base = read_parquet("data/standardized/base.parquet")
    extra = read_parquet("data/standardized/extra.parquet")
    print(f"ranking {len(base):,} rows of base and {len(extra):,} of extra ...", flush=True)
    ranked = pool(base["id"], extra["id"], params.seed)
    from_base, from_extra = members(ranked, params.size)
    mix = pa.concat_tables([taken(base, from_base), taken(extra, from_extra)], promote_options="permissive")
    write_parquet("data/mix.parquet", mix)

    counted = pc.value_counts(mix["source"]).to_pylist()
    composition = dict(sorted((entry["values"], entry["counts"]) for entry in counted))
    metrics = {
        "rows": len(mix),
        "from_base": len(from_base),
        "from_extra": len(from_extra),
        "available": {"base": len(ranked.base), "extra": len(ranked.extra)},
        "removed": ranked.removed,
        "composition": composition,
    }
    write_json("metrics/mix.json", metrics)
    print(f"mix      {len(mix):>9,} rows: {len(from_base):,} of base, {len(from_extra):,} of extra")
    print(
        f"removed  {ranked.removed['extra_in_base']:>9,} rows of extra that base has, and exact duplicates: ",
        end="",
    )
    print(f"{ranked.removed['base_duplicates']:,} in base, {ranked.removed['extra_duplicates']:,} in extra")
    for source, count in composition.items():
        print(f"  {source:<28} {count:>9,}  {count / len(mix):6.1%}")


if __name__ == "__main__":
    run(main)
