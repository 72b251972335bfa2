"""A controlled comparison: sizes x replicates x conditions, each a plain `dvc exp run`, and a report.

    python -m scripts.study [--sizes 100k 200k 300k] [--replicates 5] [--condition PARAM=VALUE ...]
        [--devices 0,1] [--out study]
    python -m scripts.study --from FOLDER ...       # report on results that are there already

A condition is what else its runs change in params.yaml; --condition may be given several times, and
--replicates then takes a number for each. Without it there are two: params.yaml as it is, and one full epoch.
Each run is done in a temporary copy, so the workspace stays as it is, and is an experiment, study-NAME, named
after what it changes, that takes the place of an earlier one of that name. They go one after another, or with
--devices one on each of these GPUs at a time. The others are done where one fails. Interrupt it whenever you
like: started again, it takes finished runs as they are, and finished stages of the others from DVC's run
cache.

Writes OUT/report.md, OUT/table.csv, OUT/curves.png, and for each run OUT/runs/NAME with its params, metrics,
provenance and scores by example (no texts, so that it can be published): `--from OUT/runs/*` makes the same
report.
"""

import argparse
import gzip
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from scripts import at_once
from scripts.results import INPUTS, Source
from scripts.study_runs import run_all
from sft.core.errors import UserError
from sft.core.files import replacing, write_csv, write_json, write_text
from sft.core.params import load
from sft.plotting.study import Curves, Point, scaling
from sft.statistics.gains import as_counted
from sft.study import analysis, report
from sft.study.conclusion import conclusion
from sft.study.plan import condition, plan
from sft.study.results import Result
from sft.study.wording import condition_name
from stages.cli import PARAMS, described
from stages.paths import (
    METRICS_EVALUATE,
    METRICS_MIX,
    METRICS_TRAIN,
    PROVENANCE_EVALUATE,
    PROVENANCE_TRAIN,
    SCORES_BASELINE,
    SCORES_EVALUATE,
)

# What is published of a run as it is, where it has it, and what compressed.
PLAIN = (METRICS_MIX, METRICS_TRAIN, METRICS_EVALUATE, PROVENANCE_TRAIN, PROVENANCE_EVALUATE)
COMPRESSED = (SCORES_EVALUATE, SCORES_BASELINE)
FIGURE, TABLE = "curves.png", "table.csv"  # beside the report


def main() -> None:
    """Run what is not finished, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["100k", "200k", "300k"])
    parser.add_argument("--replicates", nargs="+", type=int, default=[5])
    parser.add_argument("--condition", nargs="+", action="append", metavar="PARAM=VALUE")
    at_once.add_option(parser)
    parser.add_argument("--from", nargs="+", metavar="FOLDER", dest="folders")
    parser.add_argument("--out", type=Path, default=Path("study"))
    arguments = parser.parse_args()
    try:
        if arguments.folders:
            folders = {Path(folder).resolve().name: folder for folder in arguments.folders}
            if len(folders) < len(arguments.folders):
                raise UserError("--from: two folders have the same name. Rename one.")
            done = {name: at for name, at in folders.items() if (Path(at) / METRICS_EVALUATE).exists()}
            for name in folders.keys() - done.keys():
                print(f"{name}: left out, for it is not finished")
            sources = {name: Source.of(folder) for name, folder in done.items()}
        else:
            values = load(PARAMS)
            epoch = [] if values["train"]["budget"] == "1 epoch" else [["train.budget=1 epoch"]]
            conditions = [condition(values, texts) for texts in arguments.condition or [[], *epoch]]
            runs = plan(values, arguments.sizes, arguments.replicates, conditions)
            _check_free(arguments.out, {run.name for run in runs})
            commits = run_all(runs, values, at_once.share(arguments.devices))
            sources = {name: Source.of(commit) for name, commit in commits.items()}
        _check_free(arguments.out, set(sources))
        write(arguments.out, {name: replace(source, name=name) for name, source in sources.items()})
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted: start it again and it goes on from here")


def write(out: Path, sources: dict[str, Source]) -> None:
    """Write the report, and what it was made from."""
    results = {name: source.result() for name, source in sources.items()}
    members = list(results.values())
    outcome = analysis.study(members)
    rows = list(analysis.rows_of(outcome))
    base = analysis.base_scores(members)
    for name, result in results.items():
        publish(out / "runs" / name, sources[name], result)
    scaling(out / FIGURE, curves(outcome.conditions, rows), base, list(analysis.COMPARED_BY))
    write_csv(out / TABLE, report.table_rows(rows))
    write_text(out / "report.md", report.markdown(outcome, members, rows, base, FIGURE, TABLE))
    print(conclusion(outcome, members))
    print(f"\n{out / 'report.md'} has the tables.")


def publish(folder: Path, source: Source, result: Result) -> None:
    """Write what makes a run's result again, and its metrics; read all before, for it may lie there."""
    texts = {path: text for path in (*PLAIN, *COMPRESSED) if (text := source.read(path)) is not None}
    write_text(folder / PARAMS, json.dumps(result.params, indent=2) + "\n")  # JSON is YAML
    if result.inputs:
        write_json(folder / INPUTS, asdict(result.inputs))
    for path, text in texts.items():
        if path in PLAIN:
            write_text(folder / path, text)
        else:
            with replacing(folder / f"{path}.gz") as temporary:
                temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def curves(conditions: list[analysis.Condition], rows: list[analysis.Row]) -> list[Curves]:
    """Return what the figure draws: a bar is the 95% interval of the change from the smallest size."""
    drawn = []
    for of in conditions:
        points: dict[tuple[str, str], list[Point]] = {}
        for row in rows:
            if row.condition is of:
                points.setdefault((row.task, row.metric), []).append(Point(row.size, row.mean, _bar(row)))
        drawn.append(Curves(condition_name(of), points))
    return drawn


def _bar(row: analysis.Row) -> tuple[float, float] | None:
    if row.verdict is None:
        return None
    difference, interval = as_counted(row.verdict.result, row.metric)
    start = row.mean - difference
    return (start + interval[0], start + interval[1]) if interval else None


def _check_free(out: Path, names: set[str]) -> None:
    """Raise UserError where there are runs of another study, which would be taken for this one's."""
    there = {path.name for path in (out / "runs").glob("*")}
    if others := sorted(there - names):
        raise UserError(
            f"{out / 'runs'}: {others[0]} is not of this study. Choose another --out, or remove it first."
        )


if __name__ == "__main__":
    main()
