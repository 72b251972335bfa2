"""Turn the pinned sources into standardized rows, and hold out evaluation and validation items.

Reads data.base, data.extra and the tasks' sources. Writes data/standardized/ (base.parquet, extra.parquet,
rejects.jsonl), data/holdout/ (evaluation.parquet, validation.parquet) and metrics/standardize.json.

Run as `python -m stages.standardize`.
"""

from pathlib import PurePosixPath
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError, UserError
from sft.core.files import write_json, write_parquet
from sft.core.params import Params, Share, Text, mapping, section
from sft.data import rejects, sources
from sft.data.holdout import HoldoutParams, Split, evaluation_pool, split
from sft.data.source_rows import Reason
from sft.data.sources import Loaded
from sft.fetch.uri import FORMS, parse
from sft.tasks.task import TaskParams, tasks_of
from stages import paths
from stages.cli import run


class StandardizeParams(Params):
    """`data`: the sources, the hold-out, and the share of rejected rows at which the stage fails."""

    base: list[Text]
    extra: list[Text]
    holdout: HoldoutParams
    max_rejects: Share


class PartCounts(TypedDict):
    """Rows of base or extra as read, and those left of them."""

    read: int
    rows: int


class SourceCounts(TypedDict):
    """What a source gave, and which commit or digest it was."""

    rows: int
    rejects: int
    reasons: dict[str, int]
    skipped: dict[Reason, int]
    resolved: str


class Counts(TypedDict):
    """What metrics/standardize.json holds; `evaluation` are examples by task, `sources` by URI."""

    base: PartCounts
    extra: PartCounts
    validation: dict[str, int]
    evaluation: dict[str, int]
    sources: dict[str, SourceCounts]


def main(values: dict[str, Any]) -> None:
    """Standardize every source and write the rows, the hold-out, the rejects and the counts."""
    params = section(values, "data", StandardizeParams)
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    if not params.base:
        raise ParamError("data.base: the list is empty. Name one source at least.")
    of_tasks = [task.source for task in tasks]
    loaded = load_all([*params.base, *params.extra, *of_tasks], params.max_rejects)
    base = joined(loaded, params.base, "base")
    extra = joined(loaded, params.extra, "extra") if params.extra else base.slice(0, 0)

    rows = {source: loaded[source].table for source in of_tasks}
    evaluation = evaluation_pool(rows, tasks, params.holdout.seed)
    left = split(base, extra, evaluation, params.holdout)
    write_parquet(paths.BASE, left.base)
    write_parquet(paths.EXTRA, left.extra)
    write_parquet(paths.EVALUATION, evaluation)
    write_parquet(paths.VALIDATION, left.validation)

    counts = counted(base, extra, evaluation, left, loaded)
    write_json(paths.METRICS_STANDARDIZE, counts)
    report(counts)


def load_all(uris: list[str], max_rejects: float) -> dict[str, Loaded]:
    """Load each distinct source once, write the rejects of all, and check each source's share of them."""
    for uri in uris:
        check_tracked(uri)
    loaded = {uri: sources.load(uri) for uri in dict.fromkeys(uris)}
    rejects.write(paths.REJECTS, [reject for source in loaded.values() for reject in source.rejects])
    for uri, source in loaded.items():
        rejects.check(uri, source.rejects, len(source.table), max_rejects, paths.REJECTS)
    return loaded


def check_tracked(uri: str) -> None:
    """Raise UserError for a file that is not under data/raw, the folder that the pipeline tracks."""
    address = parse(uri)
    path = PurePosixPath(address.name)
    if address.scheme != "file" or (path.is_relative_to(paths.RAW) and ".." not in path.parts):
        return
    name = path.name if path.name not in ("", "..") else "FILE"
    raise UserError(
        f"{uri}: not under {paths.RAW}/, so it would be missing in other clones and in queued experiments. "
        f"Put it there, run `dvc add {paths.RAW}/{name}`, and name it {paths.RAW}/{name}. {FORMS}"
    )


def joined(loaded: dict[str, Loaded], uris: list[str], name: str) -> pa.Table:
    """Put the rows of several sources behind one another."""
    return sources.concatenated([loaded[uri].table for uri in uris], f"data.{name}")


def counted(
    base: pa.Table, extra: pa.Table, evaluation: pa.Table, left: Split, loaded: dict[str, Loaded]
) -> Counts:
    """Count the rows of every part, as read and as left, and of every source."""
    by_task = pc.value_counts(evaluation["task"]).to_pylist()
    return {
        "base": {"read": len(base), "rows": len(left.base)},
        "extra": {"read": len(extra), "rows": len(left.extra)},
        "validation": {"rows": len(left.validation)},
        "evaluation": {entry["values"]: entry["counts"] for entry in by_task},
        "sources": {
            uri: {
                "rows": len(source.table),
                "rejects": len(source.rejects),
                "reasons": rejects.by_reason(source.rejects),
                "skipped": source.skipped,
                "resolved": source.resolved,
            }
            for uri, source in loaded.items()
        },
    }


def report(counts: Counts) -> None:
    """Print the counts."""
    base, extra, by_task = counts["base"], counts["extra"], counts["evaluation"]
    held_out = counts["validation"]["rows"]
    print(f"base        {base['rows']:>9,} rows of {base['read']:,}; {held_out:,} held out for validation")
    print(f"extra       {extra['rows']:>9,} rows of {extra['read']:,}")
    examples = ", ".join(f"{count} {task}" for task, count in by_task.items())
    print(f"evaluation  {sum(by_task.values()):>9,} examples: {examples}")
    rejected = sum(source["rejects"] for source in counts["sources"].values())
    print(f"rejects     {rejected:>9,} rows, in {paths.REJECTS}")


if __name__ == "__main__":
    run(main)
