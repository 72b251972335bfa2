"""The results as a Markdown table and as a CSV of every run."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.data_speed.contestants import BOTH, DATASETS, MIX, STANDARDIZE, Run
from benchmarks.data_speed.process_tree import Usage
from sft.core.files import write_csv

HEAD = (
    "rows",
    "program",
    "seconds",
    "as fast as `datasets`",
    "rows/s",
    "CPU, s",
    "memory, GiB",
    "largest process, GiB",
    "written, GB",
    "results, GB",
)
GIB, GB = 2**30, 1e9


@dataclass(frozen=True)
class Line:
    """All runs of a program over so many rows: medians, of memory the peak."""

    rows: int
    program: str
    seconds: float
    fastest: float
    slowest: float
    cpu_seconds: float
    memory: int
    largest_process: int
    written: float
    results: float


def lines(runs: Iterable[Run]) -> list[Line]:
    """Sum up the runs, a line for each program and number of rows, and one for the two stages together."""
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in with_both(runs):
        groups.setdefault((run.rows, run.program), []).append(run)
    return [_line(rows, program, of) for (rows, program), of in groups.items()]


def with_both(runs: Iterable[Run]) -> list[Run]:
    """Add behind each run of mix that run of both stages: sums, of memory the larger one."""
    found = []
    standardized: dict[tuple[int, int], Run] = {}
    for run in runs:
        found.append(run)
        if run.program == STANDARDIZE:
            standardized[run.rows, run.number] = run
        if run.program == MIX:
            first = standardized[run.rows, run.number]
            one, two = first.usage, run.usage
            usage = Usage(
                round(one.seconds + two.seconds, 3),
                round(one.cpu_seconds + two.cpu_seconds, 3),
                max(one.memory, two.memory),
                max(one.largest_process, two.largest_process),
                one.written + two.written,
            )
            found.append(Run(run.rows, run.number, BOTH, usage, first.results + run.results))
    return found


def _line(rows: int, program: str, runs: list[Run]) -> Line:
    usages = [run.usage for run in runs]
    seconds = [usage.seconds for usage in usages]
    return Line(
        rows,
        program,
        median(seconds),
        min(seconds),
        max(seconds),
        median(usage.cpu_seconds for usage in usages),
        max(usage.memory for usage in usages),
        max(usage.largest_process for usage in usages),
        median(usage.written for usage in usages),
        median(run.results for run in runs),
    )


def markdown(found: list[Line]) -> list[str]:
    """Return the table; where a program ran several times, with the fastest and the slowest of these."""
    theirs = {line.rows: line.seconds for line in found if line.program == DATASETS}
    rows = []
    for line in found:
        several = line.slowest > line.fastest
        spread = f" ({line.fastest:.1f} to {line.slowest:.1f})" if several else ""
        compared = line.program == BOTH and line.rows in theirs
        rows.append(
            (
                f"{line.rows:,}",
                f"`{line.program}`" if line.program == DATASETS else line.program,
                f"{line.seconds:.1f}{spread}",
                f"{theirs[line.rows] / line.seconds:.2f} times" if compared else "",
                f"{line.rows / line.seconds:,.0f}",
                f"{line.cpu_seconds:.1f}",
                f"{line.memory / GIB:.2f}",
                f"{line.largest_process / GIB:.2f}",
                f"{line.written / GB:.2f}",
                f"{line.results / GB:.2f}",
            )
        )
    return [f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *rows)]


def save(path: Path, runs: Iterable[Run]) -> None:
    """Write every run as a line of a CSV: seconds and bytes."""
    records = []
    for run in with_both(runs):
        record = {"rows": run.rows, "run": run.number, "program": run.program, **asdict(run.usage)}
        records.append(record | {"results": run.results})
    write_csv(path, records)
