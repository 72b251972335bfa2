"""Turn the pinned sources into standardized rows, and hold out evaluation and validation items.

Reads data.base, data.extra and the tasks' sources. Writes data/standardized/ (base.parquet, extra.parquet,
rejects.jsonl), data/holdout/ (evaluation.parquet, validation.parquet), metrics/standardize.json and
provenance/standardize.json.

Run as `python -m stages.standardize`.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import MissingFile, ParamError, UserError
from sft.core.files import write_json, write_parquet
from sft.core.params import Params, Share, Text, mapping, section
from sft.core.row_schema import HOLDOUT_ONLY, MESSAGES, take_rows
from sft.data import account, rejects, sources
from sft.data.contamination import REASONS
from sft.data.evaluation_pool import CHOICES, evaluation_pool
from sft.data.holdout import (
    HoldoutParams,
    Split,
    split,
)
from sft.data.sources import Loaded
from sft.data.training_rows import Clean, check_left, clean_all, forms
from sft.fetch.uri import FORMS, parse
from sft.mixing.near_held_out import near_held_out
from sft.tasks.task import Task, TaskParams, tasks_of
from stages import paths
from stages.cli import run


class StandardizeParams(Params):
    """`data`: the sources, the hold-out, and the share of rejected rows at which the stage fails."""

    base: list[Text]
    extra: list[Text]
    holdout: HoldoutParams
    max_rejects: Share


def main(values: dict[str, Any]) -> None:
    """Standardize every source and write the rows, the hold-out, the rejects and the counts."""
    params = section(values, "data", StandardizeParams)
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    of_tasks = [task.source for task in tasks]
    loaded = load_all(addresses(params, tasks), params.max_rejects)
    tables = {uri: source.table for uri, source in loaded.items()}

    evaluation = evaluation_pool(tables, tasks, params.holdout.seed)
    clean = clean_all(tables, evaluation)
    base = joined(clean, params.base, "base")
    check_left(base, clean, params.base)
    extra = joined(clean, params.extra, "extra") if params.extra else base.slice(0, 0)
    trained_on = dict.fromkeys([*params.base, *params.extra])
    learnt = [task for task in tasks if task.source in trained_on]
    others = [clean[uri].rows for uri in dict.fromkeys(params.base) if uri not in of_tasks]
    left = split(base, extra, forms(tables, clean, learnt), params.holdout, others)
    lost = taken(base, extra, left)
    near, covered = take_out_near(left, evaluation)
    write_parquet(paths.BASE, without_columns(left.base))
    write_parquet(paths.EXTRA, without_columns(left.extra))
    write_parquet(paths.EVALUATION, evaluation)
    write_parquet(paths.VALIDATION, left.validation)

    metrics: account.Metrics = {
        "base_rows": len(left.base),
        "extra_rows": len(left.extra),
        "rejects": sum(len(source.rejects) for source in loaded.values()),
        "dropped_columns": sum(len(source.dropped) for source in loaded.values()),
        "ends_on_user": sum(source.ends_on_user for source in loaded.values()),
        "contaminated": {
            reason: sum(clean[uri].contaminated[reason] for uri in trained_on) for reason in REASONS
        },
        "near_held_out": sum(near.values()),
        "evaluation": account.by_value(evaluation["task"]),
        "validation": {
            task.name: account.by_value(left.validation["task"]).get(task.name, 0) for task in learnt
        },
    }
    found: account.Provenance = {
        "sources": {uri: account.counted(source, clean[uri]) for uri, source in loaded.items()},
        "validation": account.by_value(left.validation["kind"]),
        "taken_from_training": lost,
        "near_held_out": near,
        "covered_by_held_out": covered,
    }
    write_json(paths.METRICS_STANDARDIZE, metrics)
    write_json(paths.PROVENANCE_STANDARDIZE, found)
    said = account.lines(metrics, found, params.holdout.validation_per_task, paths.REJECTS)
    print("\n".join([*said, *account.shared_kinds({uri: tables[uri] for uri in trained_on})]))


def take_out_near(left: Split, evaluation: pa.Table) -> tuple[dict[str, int], int]:
    """Take rows out of base and extra that nearly repeat an evaluation example or a validation row.

    Only rows that are items of their own: where a reader knows what a row is made from, all forms of what is
    held out are gone already, and what is alike is another item. Return how many, by the rows' source, and
    how many stay that held-out rows have most of; raises ParamError where nothing of base is left.
    """
    held = pa.chunked_array(
        [*as_conversations(evaluation).chunks, *left.validation["messages"].chunks], MESSAGES
    )
    counts: dict[str, int] = {}
    covered = 0
    for name in ("base", "extra"):
        rows = getattr(left, name)
        alone = np.flatnonzero(pc.equal(rows["id"], rows["item"]))
        found = near_held_out(take_rows(rows.select(["messages"]), alone)["messages"], held)
        covered += int(found.covered.sum())
        near = alone[found.nearest >= 0]
        for source, count in account.by_value(rows["source"].take(pa.array(near))).items():
            counts[source] = counts.get(source, 0) + count
        stay = np.ones(len(rows), bool)
        stay[near] = False
        setattr(left, name, rows.filter(pa.array(stay)))
    if not len(left.base):
        raise ParamError(
            f"data.base: no row of it is left to train on: {sum(counts.values()):,} rows nearly repeat one "
            "that is held out. Leave the repetitions out of the file, or hold out less: data.holdout, "
            "tasks.*.holdout."
        )
    return counts, covered


def as_conversations(evaluation: pa.Table) -> pa.ChunkedArray:
    """Return evaluation examples as conversations, each with its own answer."""
    conversations = []
    for row in evaluation.select(["prompt", "references", "calls"]).to_pylist():
        answer = {"role": "assistant", "content": row["references"][0]}
        if row["calls"] is not None:
            answer |= {"content": "", "tool_calls": row["calls"]}
        conversations.append([*row["prompt"], answer])
    return pa.chunked_array([pa.array(conversations, MESSAGES)])


def without_columns(rows: pa.Table) -> pa.Table:
    """Return rows without the columns that the hold-out alone reads."""
    return rows.drop_columns([name for name in (*HOLDOUT_ONLY, CHOICES) if name in rows.column_names])


def addresses(params: StandardizeParams, tasks: list[Task]) -> list[str]:
    """Return the distinct sources that are read: base's, extra's, the tasks'.

    Raises ParamError where base has none, UserError for what is no address, and as `check_tracked` does.
    """
    if not params.base:
        raise ParamError("data.base: the list is empty. Name one source at least.")
    uris = list(dict.fromkeys([*params.base, *params.extra, *(task.source for task in tasks)]))
    for uri in uris:
        check_tracked(uri)
    return uris


def load_all(uris: list[str], max_rejects: float) -> dict[str, Loaded]:
    """Load each source, write the rejects of all, and check each source's share of them."""
    loaded = {uri: sources.load(uri) for uri in uris}
    rejects.write(paths.REJECTS, [reject for source in loaded.values() for reject in source.rejects])
    for uri, source in loaded.items():
        rejects.check(uri, source.rejects, len(source.table), max_rejects, paths.REJECTS)
    return loaded


def check_tracked(uri: str) -> None:
    """Raise UserError for a file that is not under data/raw, the folder that the pipeline tracks.

    Raises MissingFile for one that is not there, nor tracked by DVC: then it may be without its data here.
    """
    address = parse(uri)
    path = PurePosixPath(address.name)
    if address.scheme != "file":
        return
    if path.is_relative_to(paths.RAW) and ".." not in path.parts:
        pointers = (Path(f"{of}.dvc") for of in (path, *path.parents))
        if not Path(path).exists() and not any(pointer.is_file() for pointer in pointers):
            raise MissingFile(Path(path))
        return
    name = path.name if path.name not in ("", "..") else "FILE"
    raise UserError(
        f"{uri}: not under {paths.RAW}/, so it would be missing in other clones and in queued experiments. "
        f"Put it there, run `dvc add {paths.RAW}/{name}`, and name it {paths.RAW}/{name}. {FORMS}"
    )


def joined(clean: dict[str, Clean], uris: list[str], name: str) -> pa.Table:
    """Put the rows of several sources behind one another."""
    return sources.concatenated([clean[uri].rows for uri in uris], f"data.{name}")


def taken(base: pa.Table, extra: pa.Table, left: Split) -> dict[str, int]:
    """Count the rows that validation takes from base and extra, and how many of these for the floor."""
    return {
        "base": len(base) - len(left.base),
        "extra": len(extra) - len(left.extra),
        "for_validation_per_task": left.for_validation_per_task,
    }


if __name__ == "__main__":
    run(main)
