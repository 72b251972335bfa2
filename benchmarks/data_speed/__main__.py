"""How fast standardize and mix are, and how much memory they take, beside a program of `datasets`.

Over random ShareGPT conversations (`rows`) of which 60% are chosen: the stages as the pipeline runs them,
with the default's params but for the source and one task on it; and a program of `datasets` that makes
messages of them, shuffles, chooses and writes, with one process a core. Each runs in processes of its own,
Python's start included; they take turns at going first. The files that they read are in the page cache.

Run as `python -m benchmarks.data_speed` on an idle machine with 40 GB of disk below --folder; --out also
writes data.csv (every run) and data.png. On two cores, where `datasets` takes 27 s for a million rows, allow
a quarter of an hour, and as long again for --filters. Linux only.
"""

import argparse
import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.data_speed import rows, table
from benchmarks.data_speed.contestants import Run, cores, of_datasets, of_filters, of_stages
from benchmarks.data_speed.process_tree import ProgramError
from sft.core.errors import ParamError
from sft.core.params import Count, parse_value

SIZES = [100_000, 1_000_000, 5_000_000]
MOST_FILTERED = 1_000_000  # rows that the optional filters are measured with
MOST_REPEATED = 1_000_000  # rows; larger sizes, which take minutes, run once
DISK = 8_000  # bytes a row: the source, what the stages leave, and the files of `datasets`


def main(given: list[str] | None = None) -> None:
    """Measure each size and print the table; exit with status 1 where a program fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", type=_count, default=SIZES, help="sizes: 100k 1M 5M")
    parser.add_argument(
        "--repeats", type=_count, default=3, help="runs of each program at each size up to 1M: 3"
    )
    parser.add_argument("--filters", action="store_true", help="also mix with each optional filter, up to 1M")
    parser.add_argument(
        "--folder", type=Path, help="where files are made, and rows are kept; else a temporary one"
    )
    parser.add_argument("--out", type=Path, help="a folder for data.csv and data.png")
    options = parser.parse_args(given)
    sizes = sorted(set(options.rows))
    filtered = MOST_FILTERED if options.filters else 0
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        work = Path(temporary).resolve()
        kept = options.folder.resolve() if options.folder else work
        check_disk(kept, max(sizes))
        try:
            for size in sizes:
                source = made(kept, size)
                repeats = options.repeats if size <= MOST_REPEATED else 1
                for run in measure(source, size, repeats, work, size <= filtered):
                    print(_said(run), file=sys.stderr, flush=True)
                    runs.append(run)
                if options.out:
                    write(options.out, runs)
        except ProgramError as error:
            sys.exit(f"error: {error}")
    print("\n".join([machine(), "", *table.markdown(table.lines(runs))]))


def made(folder: Path, size: int) -> Path:
    """Return the file of so many rows in `folder`, made if it is not there."""
    path = folder / f"rows-{size}.parquet"
    if not path.exists():
        print(f"making {path} ...", file=sys.stderr, flush=True)
        rows.write(path, size)
    return path


def measure(source: Path, size: int, repeats: int, work: Path, filters: bool) -> Iterator[Run]:
    """Run both programs `repeats` times in the empty folder `work`; raises ProgramError."""
    for number in range(repeats):
        for ours in (True, False) if number % 2 == 0 else (False, True):
            if ours:
                yield from of_stages(source, size, number, work / "stages")
            else:
                yield of_datasets(source, size, number, work / "datasets")
                shutil.rmtree(work / "datasets")
    if filters:
        yield from of_filters(size, work / "stages")
    shutil.rmtree(work / "stages")


def write(folder: Path, runs: list[Run]) -> None:
    """Write data.csv and data.png."""
    from benchmarks.data_speed.picture import draw

    folder.mkdir(parents=True, exist_ok=True)
    table.save(folder / "data.csv", runs)
    draw(folder / "data.png", table.lines(runs))


def check_disk(folder: Path, size: int) -> None:
    """Say how much disk is needed; exit where there is less."""
    needed, free = size * DISK, shutil.disk_usage(folder).free
    said = f"{folder}: {needed / 1e9:.1f} GB needed for {size:,} rows, {free / 1e9:.1f} GB free"
    if needed > free:
        sys.exit(f"error: {said}. Give --folder on another disk, or fewer --rows.")
    print(said, file=sys.stderr, flush=True)


def machine() -> str:
    """Return the processor, the cores and the memory of this machine, and the versions that matter."""
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 2**30
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("pyarrow", "numpy", "datasets")]
    return (
        f"{cores()} cores, {names[0] if names else platform.machine()}, {memory:.0f} GiB of memory; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def _said(run: Run) -> str:
    usage = run.usage
    return f"{run.rows:,} rows, {run.program}: {usage.seconds:.1f} s, {usage.memory / 2**30:.2f} GiB"


def _count(text: str) -> int:
    try:
        return int(parse_value(text, Count, "the number"))
    except ParamError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
