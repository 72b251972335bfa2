"""Turn the pinned sources into standardized rows, and hold out evaluation and validation items.

Reads data.base, data.extra and the tasks' sources. Writes data/standardized/ (base.parquet, extra.parquet,
rejects.jsonl), data/holdout/ (evaluation.parquet, validation.parquet), metrics/standardize.json and
provenance/standardize.json.

Run as `python -m stages.standardize`.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import ParamError, UserError
from sft.core.files import write_json, write_parquet
from sft.core.params import Params, Share, Text, mapping, section
from sft.core.row_schema import HOLDOUT_ONLY, MESSAGES, take_rows
from sft.data import rejects, sources
from sft.data.contamination import EXACT, REASONS, Examples
from sft.data.holdout import (
    CHOICES,
    HoldoutParams,
    Split,
    evaluation_pool,
    given_away,
    of_form,
    split,
    without,
)
from sft.data.source_rows import Reason
from sft.data.sources import Loaded
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


class Metrics(TypedDict):
    """What metrics/standardize.json holds.

    Rows to train on, examples by task, validation rows by task that is trained on, rows that hold an example,
    by the reason (all but those with the question only are taken out), and rows that nearly repeat a held-out
    one, which are taken out too.
    """

    base_rows: int
    extra_rows: int
    rejects: int
    contaminated: dict[str, int]
    near_held_out: int
    evaluation: dict[str, int]
    validation: dict[str, int]


class SourceCounts(TypedDict):
    """What a source gave, which commit or digest it was, and what was taken out of it.

    `layouts`, `used` and `dropped` are its files' layouts, the columns that conversations are made from, and
    by column the rows that have a value which is neither used nor kept. `ends_on_user` counts the rows whose
    last message is a user's, `held_out` those of evaluation items, and `contaminated` others that hold an
    example.
    """

    rows: int
    rejects: int
    reasons: dict[str, int]
    skipped: dict[Reason, int]
    layouts: str
    used: str
    dropped: dict[str, int]
    ends_on_user: int
    resolved: str
    held_out: int
    contaminated: dict[str, int]


class Provenance(TypedDict):
    """What provenance/standardize.json holds; `sources` by URI, validation rows by kind.

    `near_held_out` counts by the rows' `source` those of base and extra that nearly repeat a held-out row.
    """

    sources: dict[str, SourceCounts]
    validation: dict[str, int]
    taken_from_training: dict[str, int]
    near_held_out: dict[str, int]


@dataclass
class Clean:
    """A source's rows without evaluation items, and without other rows that hold an example."""

    rows: pa.Table
    held_out: int
    contaminated: dict[str, int]


def main(values: dict[str, Any]) -> None:
    """Standardize every source and write the rows, the hold-out, the rejects and the counts."""
    params = section(values, "data", StandardizeParams)
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    if not params.base:
        raise ParamError("data.base: the list is empty. Name one source at least.")
    of_tasks = [task.source for task in tasks]
    loaded = load_all([*params.base, *params.extra, *of_tasks], params.max_rejects)
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
    near = take_out_near(left, evaluation)
    write_parquet(paths.BASE, without_columns(left.base))
    write_parquet(paths.EXTRA, without_columns(left.extra))
    write_parquet(paths.EVALUATION, evaluation)
    write_parquet(paths.VALIDATION, left.validation)

    metrics: Metrics = {
        "base_rows": len(left.base),
        "extra_rows": len(left.extra),
        "rejects": sum(len(source.rejects) for source in loaded.values()),
        "contaminated": {
            reason: sum(clean[uri].contaminated[reason] for uri in trained_on) for reason in REASONS
        },
        "near_held_out": sum(near.values()),
        "evaluation": by_value(evaluation["task"]),
        "validation": {task.name: by_value(left.validation["task"]).get(task.name, 0) for task in learnt},
    }
    found: Provenance = {
        "sources": {uri: counted(source, clean[uri]) for uri, source in loaded.items()},
        "validation": by_value(left.validation["kind"]),
        "taken_from_training": lost,
        "near_held_out": near,
    }
    write_json(paths.METRICS_STANDARDIZE, metrics)
    write_json(paths.PROVENANCE_STANDARDIZE, found)
    report(metrics, found, params.holdout)
    for line in shared_kinds({uri: tables[uri] for uri in trained_on}):
        print(line)


def clean_all(tables: dict[str, pa.Table], evaluation: pa.Table) -> dict[str, Clean]:
    """Take evaluation items out of every source, and then the rows that hold an example all the same."""
    items, examples, clean = given_away(evaluation["item"], tables.values()), Examples(evaluation), {}
    for uri, table in tables.items():
        rows = without(table, items)
        found = examples.matches(rows)
        clean[uri] = Clean(rows.filter(pa.array(~found.exact)), len(table) - len(rows), found.counts())
    return clean


def take_out_near(left: Split, evaluation: pa.Table) -> dict[str, int]:
    """Take rows out of base and extra that nearly repeat an evaluation example or a validation row.

    Only rows that are items of their own: where a reader knows what a row is made from, all forms of what is
    held out are gone already, and what is alike is another item. Return how many, by the rows' source; raises
    ParamError where nothing of base is left.
    """
    held = pa.chunked_array(
        [*as_conversations(evaluation).chunks, *left.validation["messages"].chunks], MESSAGES
    )
    counts: dict[str, int] = {}
    for name in ("base", "extra"):
        rows = getattr(left, name)
        alone = np.flatnonzero(pc.equal(rows["id"], rows["item"]))
        near = alone[near_held_out(take_rows(rows.select(["messages"]), alone)["messages"], held) >= 0]
        for source, count in by_value(rows["source"].take(pa.array(near))).items():
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
    return counts


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


def check_left(base: pa.Table, clean: dict[str, Clean], uris: list[str]) -> None:
    """Raise ParamError where nothing of base is left to train on."""
    if not len(base):
        held_out = sum(clean[uri].held_out for uri in uris)
        contaminated = sum(held(clean[uri]) for uri in uris)
        raise ParamError(
            f"data.base: no row of it is left to train on. {held_out:,} rows are of items held out for "
            f"evaluation, and {contaminated:,} others hold an evaluation example. Name a source that the "
            "tasks are not made from, or lower tasks.*.holdout."
        )


def forms(tables: dict[str, pa.Table], clean: dict[str, Clean], tasks: list[Task]) -> dict[str, pa.Table]:
    """Return the rows of each task's form that are left of its source.

    Raises ParamError where none is, for then there is nothing to train on or to validate with.
    """
    of_task = {}
    for task in tasks:
        source = clean[task.source]
        ids = pc.unique(of_form(tables[task.source], task)["id"])
        of_task[task.name] = source.rows.filter(pc.is_in(source.rows["id"], value_set=ids))
        if not len(of_task[task.name]):
            raise ParamError(
                f"tasks.{task.name}.source: no row of the task is left of {task.source} to train on. "
                f"{source.held_out:,} rows of the source are held out for evaluation, and {held(source):,} "
                f"others hold an evaluation example. Lower tasks.{task.name}.holdout, or take the source out "
                "of data.base and data.extra."
            )
    return of_task


def held(source: Clean) -> int:
    """Count a source's rows that held an example."""
    return sum(source.contaminated[reason] for reason in EXACT)


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


def joined(clean: dict[str, Clean], uris: list[str], name: str) -> pa.Table:
    """Put the rows of several sources behind one another."""
    return sources.concatenated([clean[uri].rows for uri in uris], f"data.{name}")


def by_value(column: pa.ChunkedArray) -> dict[str, int]:
    """Count the rows by what is in a column, in the order in which it comes; null counts for nothing."""
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column.drop_null()).to_pylist()}


def counted(source: Loaded, clean: Clean) -> SourceCounts:
    """Count what a source gave, and what was taken out of it."""
    return {
        "rows": len(source.table),
        "rejects": len(source.rejects),
        "reasons": rejects.by_reason(source.rejects),
        "skipped": source.skipped,
        # Texts: an empty list makes DVC's own plots complain of this file.
        "layouts": ", ".join(source.layouts),
        "used": ", ".join(source.used),
        "dropped": source.dropped,
        "ends_on_user": source.ends_on_user,
        "resolved": source.resolved,
        "held_out": clean.held_out,
        "contaminated": clean.contaminated,
    }


def taken(base: pa.Table, extra: pa.Table, left: Split) -> dict[str, int]:
    """Count the rows that validation takes from base and extra, and how many of these for the floor."""
    return {
        "base": len(base) - len(left.base),
        "extra": len(extra) - len(left.extra),
        "for_validation_per_task": left.for_validation_per_task,
    }


def report(metrics: Metrics, found: Provenance, params: HoldoutParams) -> None:
    """Print the counts."""
    print(f"base        {metrics['base_rows']:>9,} rows")
    print(f"extra       {metrics['extra_rows']:>9,} rows")
    examples, validation = metrics["evaluation"], metrics["validation"]
    print(f"evaluation  {sum(examples.values()):>9,} examples: {listed(examples)}")
    rows, lost = sum(found["validation"].values()), found["taken_from_training"]
    of_tasks = f": {listed(validation)}, others of the same items" if validation else ""
    print(
        f"validation  {rows:>9,} rows{of_tasks}\n"
        f"            This takes {lost['base']:,} rows from base and {lost['extra']:,} from extra, "
        f"{lost['for_validation_per_task']:,} of them for data.holdout.validation_per_task."
    )
    for task, count in validation.items():
        if count < params.validation_per_task:
            print(
                f"            {task} has {count:,} rows for validation, not {params.validation_per_task:,}: "
                "at least half of what its source has is left to train on."
            )
    dropped = metrics["contaminated"]
    out = sum(dropped[reason] for reason in EXACT)
    print(
        f"contaminated {out:>8,} rows hold an evaluation example and are left out: {listed(dropped)} (these "
        "stay)"
    )
    for uri, counts in found["sources"].items():
        if any(counts["contaminated"][reason] for reason in EXACT):
            print(f"            {uri}: {listed(counts['contaminated'])}")
    print(f"near        {metrics['near_held_out']:>9,} rows nearly repeat a held-out one and are left out")
    for name, count in found["near_held_out"].items():
        print(f"            {name}: {count:,}")
    print(f"rejects     {metrics['rejects']:>9,} rows, in {paths.REJECTS}")
    for uri, source in found["sources"].items():
        if source["layouts"] and (notes := left_out(source)):
            print(f"            {uri} ({source['layouts']}): {'; '.join(notes)}")


def left_out(source: SourceCounts) -> list[str]:
    """Say what of a source is not trained on, and of which rows the end has no answer."""
    notes = [f"rejected: {count:,} {reason}" for reason, count in source["reasons"].items()]
    notes += [f"skipped: {count:,} {reason}" for reason, count in source["skipped"].items()]
    notes += [f"dropped: {column}, in {count:,} of its rows" for column, count in source["dropped"].items()]
    if source["ends_on_user"]:
        notes.append(f"ending with a user's message, which no answer follows: {source['ends_on_user']:,}")
    return notes


def shared_kinds(tables: dict[str, pa.Table]) -> list[str]:
    """Say which kinds have rows of several sources by chance, for these have one name.

    Parts of one package or repository share theirs on purpose.
    """
    uris: dict[str, dict[str, str]] = {}
    for uri, table in tables.items():
        for kind in pc.unique(table["kind"]).to_pylist():
            uris.setdefault(kind, {}).setdefault(parse(uri).name, uri)
    return [
        f"kind        {kind}: rows of {' and '.join(found.values())}; they share a weight in data.weights. "
        "Rename a file to weigh them apart."
        for kind, found in uris.items()
        if len(found) > 1
    ]


def listed(counts: dict[str, int]) -> str:
    """Write counts by name as text."""
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()) or "none"


if __name__ == "__main__":
    run(main)
