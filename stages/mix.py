"""Choose the mix's members: data.size rows of base by seeded rank, then of extra, after the filters.

Reads data/standardized/ and data/holdout/evaluation.parquet. Writes data/mix/, data/removed.parquet (every
row that was removed, with its reason), metrics/mix.json and provenance/mix.json.

Run as `python -m stages.mix`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core import shards
from sft.core.compat import arrow_without_pandas
from sft.core.errors import UserError
from sft.core.files import read_parquet, write_json
from sft.core.params import section
from sft.core.workers import engine
from sft.data.contamination import Examples
from sft.mixing import mix, removal
from sft.mixing.decontamination import Hits, Texts
from sft.mixing.filter_pool import filter_pool
from sft.mixing.mix import RANK, MixParams
from sft.mixing.pool import Files, Shard, rank_shard
from stages import paths, scratch
from stages.cli import run

# Words of a run, for the share of an example that a row holds, and the rows that are looked at for it.
RUN, COMPARED = 8, 100_000


@dataclass
class Contamination:
    """Rows of the mix that have something of an evaluation example.

    `exact` hold one whole, which standardize sees to: 0. `question_only` ask the same and answer otherwise.
    Of the first COMPARED rows, `over_half` hold more than half of one by runs of 8 words, as the filter
    decontaminate counts, and `largest_share` is the most that any of them holds.
    """

    exact: int
    question_only: int
    over_half: int
    largest_share: float


@dataclass
class Compared:
    """What the rows of a shard of the mix have of the evaluation examples."""

    exact: int
    question_only: int
    hits: Hits


@dataclass
class MixMetrics:
    """What metrics/mix.json holds: rows by where they come from, what was removed, and contamination.

    `members` is a hash of the rows' ids: two mixes with the same have the same rows.
    """

    rows: int
    from_base: int
    from_extra: int
    members: str
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
    """Remove duplicates, overlap and what the filters select; rank; write the members."""
    params = section(values, "data", MixParams)
    workers = engine()
    files = files_of_shards()
    examples = read_parquet(paths.EVALUATION)
    rows = [shards.count(folder) for folder in (paths.BASE, paths.EXTRA)]
    print(f"ranking {rows[0]:,} rows of base and {rows[1]:,} of extra ...", flush=True)
    ranked = partial(rank_shard, seed=params.seed, keep_overlap=params.filters.overlap == "keep")
    pool = list(workers.map(ranked, files))
    if params.filters.active:
        with scratch.folder() as folder:
            pool = filter_pool(pool, params.filters, params.seed, workers, folder, examples)
    members = mix.choose_members(pool, params.size)
    texts = Texts.of(examples, RUN)
    compare = partial(compared, examples=Examples(examples), texts=texts)
    written = mix.write(pool, members, Path(paths.MIX), compare, workers)
    removed_by_source = removal.write(paths.REMOVED, (shard.removed for shard in pool))
    from_base, from_extra = (sum(len(of_shard[part].number) for of_shard in members) for part in (0, 1))
    counts = removed_by_filter(pool)
    duplicates, overlap = counts["base_duplicates"] + counts["extra_duplicates"], counts["extra_in_base"]
    metrics = MixMetrics(
        rows=from_base + from_extra,
        from_base=from_base,
        from_extra=from_extra,
        members=written.members,
        available_base=sum(len(shard.base) for shard in pool),
        available_extra=sum(len(shard.extra) for shard in pool),
        removed_duplicates=duplicates,
        removed_overlap=overlap,
        removed_by_filters=sum(counts.values()) - duplicates - overlap,
        contamination=contamination(written.compared, texts),
    )
    provenance = MixProvenance(counts, removed_by_source, written.sources, written.kinds)
    write_json(paths.METRICS_MIX, asdict(metrics))
    write_json(paths.PROVENANCE_MIX, asdict(provenance))
    print_summary(metrics, provenance, params)


def files_of_shards() -> list[Files]:
    """Return the files of base and extra, shard by shard."""
    base, extra = shards.paths(paths.BASE), shards.paths(paths.EXTRA)
    if len(base) != len(extra):
        raise UserError(
            f"{paths.BASE} has {len(base)} shards and {paths.EXTRA} {len(extra)}: they are not of one run. "
            "Make them again: dvc repro standardize"
        )
    return [Files(one, other) for one, other in zip(base, extra, strict=True)]


def compared(rows: pa.Table, examples: Examples, texts: Texts) -> Compared:
    """Compare rows of the mix with the evaluation examples; by runs of words its first COMPARED only."""
    found = examples.matches(rows)
    first = rows["messages"].filter(pc.less(rows[RANK], COMPARED))
    return Compared(int(found.exact.sum()), int(found.question_only.sum()), texts.look(first))


def contamination(shards_compared: Sequence[Compared], texts: Texts) -> Contamination:
    """Count what the mix has of the evaluation examples, given what each of its shards has."""
    hits = [of_shard.hits for of_shard in shards_compared]
    counts = np.sum([of_shard.counts for of_shard in hits], axis=0)
    rows = sum(of_shard.rows for of_shard in hits)
    found = [texts.shares(of_shard, counts, rows) for of_shard in hits]
    largest = max(float(of_shard.share.max(initial=0.0)) for of_shard in found)
    return Contamination(
        exact=sum(of_shard.exact for of_shard in shards_compared),
        question_only=sum(of_shard.question_only for of_shard in shards_compared),
        over_half=sum(int(of_shard.removed.sum()) for of_shard in found),
        largest_share=round(largest, 4),
    )


def removed_by_filter(pool: Sequence[Shard]) -> dict[str, int]:
    """Count the removed rows by what removed them, in the order in which it applies."""
    counts: Counter[str] = Counter()
    for shard in pool:
        counts.update(shard.counts)
    return dict(counts)


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
    arrow_without_pandas()
    run(main)
