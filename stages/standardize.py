"""Turn the pinned sources into standardized rows, and hold out evaluation and validation items.

Reads data.base, data.extra and the tasks' sources. Writes data/standardized/ (base and extra, folders of
shards; rejects.jsonl), data/holdout/ (evaluation.parquet, validation.parquet), metrics/standardize.json and
provenance/standardize.json.

Run as `python -m stages.standardize`.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import MissingFile, ParamError, UserError
from sft.core.files import write_json, write_parquet
from sft.core.params import Params, Share, Text, mapping, section
from sft.core.row_schema import MESSAGES, SCHEMA
from sft.core.shards import bits_for
from sft.core.workers import Workers, engine
from sft.data import account, rejects, staged_rows, staged_sources
from sft.data.contamination import REASONS, Examples
from sft.data.evaluation_pool import evaluation_pool
from sft.data.final_shards import Wanted, Written, write
from sft.data.holdout import VALIDATION, HoldoutParams, Split, split
from sft.data.sources import concatenated
from sft.data.staged_sources import Staged
from sft.data.staging import SEQ
from sft.data.training_rows import Clean, check_left, clean_all, forms
from sft.fetch.uri import FORMS, parse
from sft.mixing.near_held_out import Held
from sft.tasks.task import Task, TaskParams, tasks_of
from stages import paths, scratch
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
    workers = engine()
    with scratch.folder() as folder:
        staged = staged_sources.stage(addresses(params, tasks), folder, workers)
        write_rejects(staged, params.max_rejects)
        hold_out(params, tasks, staged, workers)


def hold_out(
    params: StandardizeParams, tasks: list[Task], staged: dict[str, Staged], workers: Workers
) -> None:
    """Hold items out of the staged rows, and write all that there is to write."""
    of_tasks = [task.source for task in tasks]
    tables = {uri: source.light for uri, source in staged.items()}

    def rows_of(uri: str, rows: pa.Table, names: Sequence[str]) -> pa.Table:
        return staged_rows.rows_of(staged[uri], rows[SEQ], names, workers)

    evaluation = evaluation_pool(tables, tasks, params.holdout.seed, rows_of)
    examples = Examples(evaluation)
    clean = clean_all(tables, evaluation, lambda uri: staged_rows.matches(staged[uri], examples, workers))
    base, extra = joined(clean, params.base), joined(clean, params.extra)
    check_left(base, clean, params.base)
    trained_on = dict.fromkeys([*params.base, *params.extra])
    learnt = [task for task in tasks if task.source in trained_on]
    others = [clean[uri].rows for uri in dict.fromkeys(params.base) if uri not in of_tasks]
    left = split(base, extra, forms(tables, clean, learnt), params.holdout, others)
    validation = staged_rows.whole(left.validation, staged, VALIDATION, workers)
    of_base, of_extra = write_left(params, left, staged, held_out(evaluation, validation), workers)
    write_parquet(paths.EVALUATION, evaluation)
    write_parquet(paths.VALIDATION, validation)

    metrics: account.Metrics = {
        "base_rows": of_base.rows,
        "extra_rows": of_extra.rows,
        "rejects": sum(source.account.lost for source in staged.values()),
        "dropped_columns": sum(len(source.account.dropped) for source in staged.values()),
        "ends_on_user": sum(source.account.ends_on_user for source in staged.values()),
        "contaminated": {
            reason: sum(clean[uri].contaminated[reason] for uri in trained_on) for reason in REASONS
        },
        "near_held_out": (of_base.near + of_extra.near).total(),
        "evaluation": account.by_value(evaluation["task"]),
        "validation": {task.name: account.by_value(validation["task"]).get(task.name, 0) for task in learnt},
    }
    found: account.Provenance = {
        "sources": {uri: account.counted(source, clean[uri]) for uri, source in staged.items()},
        "validation": account.by_value(validation["kind"]),
        "taken_from_training": taken(base, extra, left),
        "near_held_out": dict(sorted((of_base.near + of_extra.near).items())),
        "covered_by_held_out": of_base.covered + of_extra.covered,
    }
    write_json(paths.METRICS_STANDARDIZE, metrics)
    write_json(paths.PROVENANCE_STANDARDIZE, found)
    said = account.lines(metrics, found, params.holdout.validation_per_task, paths.REJECTS)
    print("\n".join([*said, *account.shared_kinds({uri: tables[uri] for uri in trained_on})]))


def write_left(
    params: StandardizeParams, left: Split, staged: dict[str, Staged], held: Held, workers: Workers
) -> tuple[Written, Written]:
    """Write the shards of base and extra, without rows that nearly repeat a held-out one.

    Raises ParamError where nothing of base is left.
    """
    parts = [
        wanted(folder, uris, rows, staged)
        for folder, uris, rows in (
            (paths.BASE, params.base, left.base),
            (paths.EXTRA, params.extra, left.extra),
        )
    ]
    alone = [pc.sum(pc.equal(rows["id"], rows["item"])).as_py() or 0 for rows in (left.base, left.extra)]
    trained_on = [staged[uri] for uri in dict.fromkeys([*params.base, *params.extra])]
    bits = bits_for(sum(one.size for one in trained_on), sum(len(one.light) for one in trained_on))
    of_base, of_extra = write(parts, alone, held, bits, workers)
    if not of_base.rows:
        near = (of_base.near + of_extra.near).total()
        raise ParamError(
            f"data.base: no row of it is left to train on: {near:,} rows nearly repeat one that is held out. "
            "Leave the repetitions out of the file, or hold out less: data.holdout, tasks.*.holdout."
        )
    return of_base, of_extra


def wanted(folder: str, uris: list[str], left: pa.Table, staged: dict[str, Staged]) -> Wanted:
    """Say which rows of these sources are to be written to the folder."""
    schemas = [staged[uri].schema.empty_table() for uri in uris] or [SCHEMA.empty_table()]
    schema = concatenated(schemas, f"data.{Path(folder).name}").schema
    seqs = [staged[uri].light[SEQ].to_numpy() for uri in dict.fromkeys(uris)]
    out = np.setdiff1d(np.concatenate([np.zeros(0, np.int64), *seqs]), left[SEQ].to_numpy())
    pieces = tuple(piece for uri in uris for piece in staged[uri].pieces)
    return Wanted(Path(folder), pieces, schema, out)


def held_out(evaluation: pa.Table, validation: pa.Table) -> Held:
    """Return what is held out, to compare rows with."""
    chunks = [*as_conversations(evaluation).chunks, *validation["messages"].chunks]
    return Held.of(pa.chunked_array(chunks, MESSAGES))


def as_conversations(evaluation: pa.Table) -> pa.ChunkedArray:
    """Return evaluation examples as conversations, each with its own answer."""
    conversations = []
    for row in evaluation.select(["prompt", "references", "calls"]).to_pylist():
        answer = {"role": "assistant", "content": row["references"][0]}
        if row["calls"] is not None:
            answer |= {"content": "", "tool_calls": row["calls"]}
        conversations.append([*row["prompt"], answer])
    return pa.chunked_array([pa.array(conversations, MESSAGES)])


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


def write_rejects(staged: dict[str, Staged], max_rejects: float) -> None:
    """Write the rejects of all sources, and check each source's share of them."""
    rejects.write(paths.REJECTS, [reject for source in staged.values() for reject in source.account.rejects])
    for uri, source in staged.items():
        rejects.check(uri, source.account.rejects, len(source.light), max_rejects, paths.REJECTS)


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


def joined(clean: dict[str, Clean], uris: list[str]) -> pa.Table:
    """Put what is in memory of the rows of several sources behind one another."""
    tables = [clean[uri].rows for uri in uris] or [next(iter(clean.values())).rows.slice(0, 0)]
    return pa.concat_tables(tables)


def taken(base: pa.Table, extra: pa.Table, left: Split) -> dict[str, int]:
    """Count the rows that validation takes from base and extra, and how many of these for the floor."""
    return {
        "base": len(base) - len(left.base),
        "extra": len(extra) - len(left.extra),
        "for_validation_per_task": left.for_validation_per_task,
    }


if __name__ == "__main__":
    run(main)
