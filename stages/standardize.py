"""Turn the pinned sources into standardized rows, and hold out evaluation and validation items.

Reads data.base, data.extra, data.evaluation. Writes data/standardized/ (base.parquet, extra.parquet,
rejects.jsonl), data/holdout/ (evaluation.parquet, validation.parquet) and metrics/standardize.json.

Run as `python -m stages.standardize`.
"""

from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError, UserError
from sft.core.files import write_json, write_parquet
from sft.core.params import Params, Share, Text, section
from sft.data import rejects, sources
from sft.data.holdout import HoldoutParams, evaluation_items, evaluation_pool, is_validation
from sft.data.source_rows import Reject
from sft.fetch.uri import FORMS, parse
from stages import paths
from stages.cli import run


class StandardizeParams(Params):
    """`data`: the sources, the hold-out, and the share of rejected rows at which the stage fails."""

    base: list[Text]
    extra: list[Text]
    evaluation: list[Text]
    holdout: HoldoutParams
    max_rejects: Share


def main(values: dict[str, Any]) -> None:
    """Standardize every source and write the rows, the hold-out, the rejects and the counts."""
    params = section(values, "data", StandardizeParams)
    for name, uris in (("base", params.base), ("evaluation", params.evaluation)):
        if not uris:
            raise ParamError(f"data.{name}: the list is empty. Name one source at least.")
    loaded = load_all([*params.base, *params.extra, *params.evaluation], params.max_rejects)
    base = joined(loaded, params.base, "base")
    extra = joined(loaded, params.extra, "extra") if params.extra else base.slice(0, 0)
    evaluation = joined(loaded, params.evaluation, "evaluation")

    held = evaluation_items(evaluation, params.holdout)
    pool = evaluation_pool(evaluation, held, params.holdout)
    base_left = base.filter(pc.invert(pc.is_in(base["item"], value_set=held)))
    validation_mask = is_validation(base_left, params.holdout)
    validation = base_left.filter(validation_mask)
    base_left = base_left.filter(pc.invert(validation_mask))
    held_all = pa.concat_arrays([held, pc.unique(validation["item"])])
    extra_left = extra.filter(pc.invert(pc.is_in(extra["item"], value_set=held_all)))
    if not len(base_left):
        raise ParamError("data.holdout: nothing of data.base is left to train on. Lower the shares.")

    write_parquet(paths.BASE, base_left)
    write_parquet(paths.EXTRA, extra_left)
    write_parquet(paths.EVALUATION, pool)
    write_parquet(paths.VALIDATION, validation)

    counts = {
        "base": {"read": len(base), "rows": len(base_left)},
        "extra": {"read": len(extra), "rows": len(extra_left)},
        "validation": {"rows": len(validation)},
        "evaluation": {
            entry["values"]: entry["counts"] for entry in pc.value_counts(pool["task"]).to_pylist()
        },
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
    write_json(paths.METRICS_STANDARDIZE, counts)
    print(
        f"base        {len(base_left):>9,} rows of {len(base):,}; {len(validation):,} held out for validation"
    )
    print(f"extra       {len(extra_left):>9,} rows of {len(extra):,}")
    print(
        f"evaluation  {len(pool):>9,} examples: "
        + ", ".join(f"{n} {k}" for k, n in counts["evaluation"].items())
    )
    print(f"rejects     {sum(len(s.rejects) for s in loaded.values()):>9,} rows, in {paths.REJECTS}")


def load_all(uris: list[str], max_rejects: float) -> dict[str, sources.Loaded]:
    """Load each distinct source once, write the rejects of all, and check each source's share of them."""
    for uri in uris:
        check_tracked(uri)
    loaded = {uri: sources.load(uri) for uri in dict.fromkeys(uris)}
    every: list[Reject] = [reject for source in loaded.values() for reject in source.rejects]
    rejects.write(paths.REJECTS, every)
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


def joined(loaded: dict[str, sources.Loaded], uris: list[str], name: str) -> pa.Table:
    """Put the rows of several sources behind one another."""
    return sources.concatenated([loaded[uri].table for uri in uris], f"data.{name}")


if __name__ == "__main__":
    run(main)
