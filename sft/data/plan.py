"""What becomes of the staged rows: which are examples, which validate, and which of base and extra stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.row_schema import MESSAGES, SCHEMA
from sft.core.shards import bits_for
from sft.core.workers import Workers
from sft.data import staged_rows
from sft.data.contamination import Examples
from sft.data.evaluation_pool import evaluation_pool
from sft.data.final_shards import Wanted
from sft.data.holdout import VALIDATION, HoldoutParams, Split, given_away, split
from sft.data.sources import concatenated
from sft.data.staged_sources import Staged
from sft.data.staging import SEQ
from sft.data.training_rows import Clean, check_left, clean_rows, forms, ids_of_forms
from sft.tasks.task import Task


@dataclass
class Plan:
    """What is to be written: evaluation examples, validation rows, and `parts`, base and extra, as shards.

    There are 2^bits shards of each part; `alone` counts its rows that are items of their own. Of every source
    `held_out` counts the rows of evaluation items, and `contaminated` others that hold an example. `taken`
    counts the rows that validation takes, and `learnt` are the tasks that are trained on.
    """

    evaluation: pa.Table
    validation: pa.Table
    parts: list[Wanted]
    alone: list[int]
    bits: int
    held_out: dict[str, int]
    contaminated: dict[str, dict[str, int]]
    taken: dict[str, int]
    learnt: list[Task]

    @property
    def conversations(self) -> pa.ChunkedArray:
        """Return what is held out as conversations, an example with its own answer."""
        examples = []
        for row in self.evaluation.select(["prompt", "references", "calls"]).to_pylist():
            answer = {"role": "assistant", "content": row["references"][0]}
            if row["calls"] is not None:
                answer |= {"content": "", "tool_calls": row["calls"]}
            examples.append([*row["prompt"], answer])
        return pa.chunked_array([pa.array(examples, MESSAGES), *self.validation["messages"].chunks])


def plan(
    staged: dict[str, Staged],
    tasks: list[Task],
    folders: Mapping[str, Sequence[str]],
    params: HoldoutParams,
    workers: Workers,
) -> Plan:
    """Hold items out, and say which rows stay; `folders` has the sources of base and of extra by folder.

    Nothing that it returns grows with the rows but the numbers of those that go. Raises ParamError where
    nothing of base is left, and where a task has no rows.
    """
    (base_folder, of_base), (extra_folder, of_extra) = folders.items()

    def fetch(uri: str, rows: pa.Table, names: Sequence[str]) -> pa.Table:
        return staged_rows.rows_of(staged[uri], rows[SEQ], names, workers)

    trained_on = dict.fromkeys([*of_base, *of_extra])
    learnt = [task for task in tasks if task.source in trained_on]
    tables = {uri: source.light for uri, source in staged.items()}
    evaluation = evaluation_pool(tables, tasks, params.seed, fetch)
    ids = ids_of_forms(tables, learnt)
    del tables  # the rows that are taken out now are to leave the memory
    clean = _cleaned(staged, evaluation, workers)
    base, extra = _joined(clean, of_base), _joined(clean, of_extra)
    check_left(base, clean, list(of_base))
    of_tasks = {task.source for task in tasks}
    others = [clean[uri].rows for uri in dict.fromkeys(of_base) if uri not in of_tasks]
    left = split(base, extra, forms(ids, clean, learnt), params, others)
    size = sum(staged[uri].size for uri in trained_on)
    return Plan(
        evaluation,
        staged_rows.whole(left.validation, staged, VALIDATION, workers),
        [
            _wanted(base_folder, of_base, base[SEQ].filter(pa.array(~left.base_stays)), clean, staged),
            _wanted(extra_folder, of_extra, extra[SEQ].filter(pa.array(~left.extra_stays)), clean, staged),
        ],
        [
            int((np.asarray(pc.equal(rows["id"], rows["item"])) & stays).sum())
            for rows, stays in ((base, left.base_stays), (extra, left.extra_stays))
        ],
        bits_for(size, sum(staged[uri].rows for uri in trained_on)),
        {uri: one.held_out for uri, one in clean.items()},
        {uri: one.contaminated for uri, one in clean.items()},
        _taken(left),
        learnt,
    )


def _cleaned(staged: dict[str, Staged], evaluation: pa.Table, workers: Workers) -> dict[str, Clean]:
    """Take what is held out for evaluation, and what holds an example, out of the rows of every source."""
    items = given_away(evaluation["item"], (source.light for source in staged.values()))
    examples, cleaned = Examples(evaluation), {}
    for uri, source in staged.items():
        cleaned[uri] = clean_rows(source.light, items, staged_rows.matches(source, examples, workers))
        source.light = cleaned[uri].rows
    return cleaned


def _joined(clean: dict[str, Clean], uris: Sequence[str]) -> pa.Table:
    """Put what is in memory of the rows of several sources behind one another."""
    tables = [clean[uri].rows for uri in uris] or [next(iter(clean.values())).rows.slice(0, 0)]
    return pa.concat_tables(tables)


def _taken(left: Split) -> dict[str, int]:
    """Count the rows that validation takes from base and extra, and how many of these for the floor."""
    return {
        "base": int((~left.base_stays).sum()),
        "extra": int((~left.extra_stays).sum()),
        "for_validation_per_task": left.for_validation_per_task,
    }


def _wanted(
    folder: str,
    uris: Sequence[str],
    validating: pa.ChunkedArray,
    clean: dict[str, Clean],
    staged: dict[str, Staged],
) -> Wanted:
    """Say which rows of these sources are to be written to the folder: all clean ones but the `validating`.

    These are given by their SEQ.
    """
    schemas = [staged[uri].schema.empty_table() for uri in uris] or [SCHEMA.empty_table()]
    schema = concatenated(schemas, f"data.{Path(folder).name}").schema
    out = np.unique(np.concatenate([validating.to_numpy(), *(clean[uri].out for uri in uris)]))
    pieces = tuple(piece for uri in uris for piece in staged[uri].pieces)
    return Wanted(Path(folder), pieces, schema, out)
