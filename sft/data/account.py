"""What the sources gave and what is held out of them: counted, and said."""

from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from sft.data import rejects
from sft.data.contamination import EXACT, REASONS
from sft.data.final_shards import Written
from sft.data.plan import Plan
from sft.data.source_rows import Reason
from sft.data.staged_sources import Staged
from sft.fetch.uri import parse

# Fewer examples are not judged (sft.statistics.intervals).
FEWEST_EXAMPLES = 16


class Metrics(TypedDict):
    """What metrics/standardize.json holds.

    Rows to train on; of all sources the rejects, the columns that are dropped with a value in any row, and
    the rows that end with a user's message; examples by task, validation rows by task that is trained on,
    rows that hold an example, by the reason (all but those with the question only are taken out), and rows
    that nearly repeat a held-out one, which are taken out too.
    """

    base_rows: int
    extra_rows: int
    rejects: int
    dropped_columns: int
    ends_on_user: int
    contaminated: dict[str, int]
    near_held_out: int
    evaluation: dict[str, int]
    validation: dict[str, int]


class SourceCounts(TypedDict):
    """What a source gave, which commit or digest it was, and what was taken out of it.

    `layouts`, `used`, `kept` and `dropped` are its files' layouts, the columns that conversations are made
    from, those that stay beside the rows, and by column the rows that have a value which is not read.
    `ends_on_user` counts the rows whose last message is a user's, `no_user` those without any, `held_out`
    those of evaluation items, and `contaminated` others that hold an example.
    """

    rows: int
    rejects: int
    reasons: dict[str, int]
    skipped: dict[Reason, int]
    layouts: str
    used: str
    kept: str
    dropped: dict[str, int]
    ends_on_user: int
    no_user: int
    resolved: str
    held_out: int
    contaminated: dict[str, int]


class Provenance(TypedDict):
    """What provenance/standardize.json holds; `sources` by URI, validation rows by kind.

    `near_held_out` counts by the rows' `source` those of base and extra that nearly repeat a held-out row,
    `covered_by_held_out` others of which held-out rows together have most runs of words.
    """

    sources: dict[str, SourceCounts]
    validation: dict[str, int]
    taken_from_training: dict[str, int]
    near_held_out: dict[str, int]
    covered_by_held_out: int


def counted(
    staged: dict[str, Staged], plan: Plan, base: Written, extra: Written
) -> tuple[Metrics, Provenance]:
    """Count what the sources gave, what is held out of them, and what was written."""
    examples, validation = by_value(plan.evaluation["task"]), by_value(plan.validation["task"])
    trained_on = {piece.source for part in plan.parts for piece in part.pieces}
    contaminated = [of for number, of in enumerate(plan.contaminated.values()) if number in trained_on]
    accounts = [source.account for source in staged.values()]
    near = base.near + extra.near
    metrics: Metrics = {
        "base_rows": base.rows,
        "extra_rows": extra.rows,
        "rejects": sum(account.lost for account in accounts),
        "dropped_columns": sum(len(account.dropped) for account in accounts),
        "ends_on_user": sum(account.ends_on_user for account in accounts),
        "contaminated": {reason: sum(of[reason] for of in contaminated) for reason in REASONS},
        "near_held_out": near.total(),
        "evaluation": examples,
        "validation": {task.name: validation.get(task.name, 0) for task in plan.learnt},
    }
    found: Provenance = {
        "sources": {uri: _of_source(uri, source, plan) for uri, source in staged.items()},
        "validation": by_value(plan.validation["kind"]),
        "taken_from_training": plan.taken,
        "near_held_out": dict(sorted(near.items())),
        "covered_by_held_out": base.covered + extra.covered,
    }
    return metrics, found


def _of_source(uri: str, source: Staged, plan: Plan) -> SourceCounts:
    account = source.account
    return {
        "rows": source.rows,
        "rejects": account.lost,
        "reasons": rejects.by_reason(account.rejects),
        "skipped": account.skipped,
        # Texts: an empty list makes DVC's own plots complain of this file.
        "layouts": ", ".join(account.layouts),
        "used": ", ".join(account.used),
        "kept": ", ".join(source.kept),
        "dropped": account.dropped,
        "ends_on_user": account.ends_on_user,
        "no_user": account.no_user,
        "resolved": source.resolved,
        "held_out": plan.held_out[uri],
        "contaminated": plan.contaminated[uri],
    }


def lines(metrics: Metrics, found: Provenance, validation_per_task: int, rejects_file: str) -> list[str]:
    """Say all that was counted, with the file that has the rejects."""
    examples, validation = metrics["evaluation"], metrics["validation"]
    rows, lost = sum(found["validation"].values()), found["taken_from_training"]
    of_tasks = f": {listed(validation)}, others of the same items" if validation else ""
    said = [
        f"base        {metrics['base_rows']:>9,} rows",
        f"extra       {metrics['extra_rows']:>9,} rows",
        f"evaluation  {sum(examples.values()):>9,} examples: {listed(examples)}",
        *(
            f"            {task} has {count:,}, and fewer than {FEWEST_EXAMPLES} are not judged: raise "
            f"tasks.{task}.holdout, or add rows."
            for task, count in examples.items()
            if count < FEWEST_EXAMPLES
        ),
        f"validation  {rows:>9,} rows{of_tasks}",
        f"            This takes {lost['base']:,} rows from base and {lost['extra']:,} from extra, "
        f"{lost['for_validation_per_task']:,} of them for data.holdout.validation_per_task.",
    ]
    said += [
        f"            {task} has {count:,} rows for validation, not {validation_per_task:,}: "
        "of few rows most are left to train on."
        for task, count in validation.items()
        if count < validation_per_task
    ]
    dropped = metrics["contaminated"]
    out = sum(dropped[reason] for reason in EXACT)
    said.append(
        f"contaminated {out:>8,} rows hold an evaluation example and are left out: {listed(dropped)} (these "
        "stay)"
    )
    said += [
        f"            {uri}: {listed(counts['contaminated'])}"
        for uri, counts in found["sources"].items()
        if any(counts["contaminated"][reason] for reason in EXACT)
    ]
    said.append(
        f"near        {metrics['near_held_out']:>9,} rows nearly repeat a held-out one and are left out"
    )
    said += [f"            {name}: {count:,}" for name, count in found["near_held_out"].items()]
    if covered := found["covered_by_held_out"]:
        said.append(
            f"            {covered:,} more have most of their words in held-out rows, as those of a template "
            "do: they stay"
        )
    said.append(f"rejects     {metrics['rejects']:>9,} rows, in {rejects_file}")
    said += [
        f"            {uri} ({source['layouts']}): {'; '.join(notes)}"
        for uri, source in found["sources"].items()
        if source["layouts"] and (notes := left_out(source))
    ]
    return said


def by_value(column: pa.ChunkedArray) -> dict[str, int]:
    """Count the rows by what is in a column, in the order in which it comes; null counts for nothing."""
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column.drop_null()).to_pylist()}


def left_out(source: SourceCounts) -> list[str]:
    """Say what of a source is not trained on, and which rows lack a question or an answer."""
    notes = [f"rejected: {count:,} {reason}" for reason, count in source["reasons"].items()]
    notes += [f"skipped: {count:,} {reason}" for reason, count in source["skipped"].items()]
    notes += [f"dropped: {column}, in {count:,} of its rows" for column, count in source["dropped"].items()]
    if source["ends_on_user"]:
        notes.append(f"ending with a user's message, which no answer follows: {source['ends_on_user']:,}")
    if source["no_user"]:
        notes.append(f"without any message of a user: {source['no_user']:,}")
    if source["kept"]:
        notes.append(f"kept beside the rows, not trained on: {source['kept']}")
    return notes


def shared_kinds(kinds: dict[str, list[str]]) -> list[str]:
    """Say which of the sources' kinds have rows of several by chance, for these have one name.

    Parts of one package or repository share theirs on purpose.
    """
    uris: dict[str, dict[str, str]] = {}
    for uri, of_source in kinds.items():
        for kind in of_source:
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
