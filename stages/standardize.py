"""Turn the pinned sources into standardized rows, and hold out evaluation and validation items.

Reads data.base, data.extra and the tasks' sources. Writes data/standardized/ (base and extra, folders of
shards; rejects.jsonl), data/holdout/ (evaluation.parquet, validation.parquet), metrics/standardize.json and
provenance/standardize.json.

Run as `python -m stages.standardize`.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from sft.core.compat import arrow_without_pandas
from sft.core.errors import MissingFile, ParamError, UserError
from sft.core.files import write_json, write_parquet
from sft.core.params import Params, Share, Text, mapping, section
from sft.core.workers import engine
from sft.data import account, rejects, staged_sources
from sft.data.final_shards import Written, write
from sft.data.holdout import HoldoutParams
from sft.data.plan import plan
from sft.data.staged_sources import Staged
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
        folders = {paths.BASE: params.base, paths.EXTRA: params.extra}
        planned = plan(staged, tasks, folders, params.holdout, workers)
        for source in staged.values():
            source.forget()  # what is in memory of each row: the processes that write need the room
        written = write(planned.parts, planned.alone, Held.of(planned.conversations), planned.bits, workers)
    check_written(*written)
    write_parquet(paths.EVALUATION, planned.evaluation)
    write_parquet(paths.VALIDATION, planned.validation)
    metrics, found = account.counted(staged, planned, *written)
    write_json(paths.METRICS_STANDARDIZE, metrics)
    write_json(paths.PROVENANCE_STANDARDIZE, found)
    said = account.lines(metrics, found, params.holdout.validation_per_task, paths.REJECTS)
    kinds = {uri: staged[uri].kinds for uri in dict.fromkeys([*params.base, *params.extra])}
    print("\n".join([*said, *account.shared_kinds(kinds)]))


def check_written(base: Written, extra: Written) -> None:
    """Raise ParamError where nothing of base is left."""
    if not base.rows:
        near = (base.near + extra.near).total()
        raise ParamError(
            f"data.base: no row of it is left to train on: {near:,} rows nearly repeat one that is held out. "
            "Leave the repetitions out of the file, or hold out less: data.holdout, tasks.*.holdout."
        )


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
        rejects.check(uri, source.account.rejects, source.rows, max_rejects, paths.REJECTS)


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


if __name__ == "__main__":
    arrow_without_pandas()
    run(main)
