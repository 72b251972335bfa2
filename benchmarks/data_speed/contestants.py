"""The two programs that are compared, each in a folder of its own: the stages, and one of `datasets`."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset

from benchmarks.data_speed.process_tree import ProgramError, Usage, run
from sft.core.params import load
from stages import paths
from stages.cli import PARAMS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = f"{paths.RAW}/rows.parquet"
EXAMPLES = 200  # held out of the source as a task's
# Of the optional filters those that read the rows' texts.
FILTERS: dict[str, Any] = {"near_duplicates": 0.8, "decontaminate": 8, "languages": ["en"]}
STANDARDIZE, MIX, BOTH, DATASETS = "standardize", "mix", "standardize + mix", "datasets"


@dataclass(frozen=True)
class Run:
    """One run of a program over so many rows; `results` is the bytes of what it leaves, without caches."""

    rows: int
    number: int
    program: str
    usage: Usage
    results: int


def members(rows: int) -> int:
    """Return how many of the rows both programs choose."""
    return rows * 3 // 5


def params(rows: int, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default's params with the source of these rows for all data, and one task on it."""
    values: dict[str, Any] = load(ROOT / PARAMS)
    values["data"] |= {"base": [SOURCE], "extra": [], "size": members(rows)}
    values["data"]["filters"] |= filters
    values["tasks"] = {
        "made": {"source": SOURCE, "holdout": EXAMPLES, "max_new_tokens": 64, "metrics": []},
    }
    return values


def of_stages(source: Path, rows: int, number: int, folder: Path) -> list[Run]:
    """Run standardize and mix in `folder`, made anew; raises ProgramError also for a mix of another size."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / paths.RAW).mkdir(parents=True)
    os.link(source, folder / SOURCE)
    runs = []
    for name in (STANDARDIZE, MIX):
        before = _bytes(folder / "data")
        usage = _stage(name, rows, folder, {})
        runs.append(Run(rows, number, name, usage, _bytes(folder / "data") - before))
    check_rows(folder / paths.MIX, rows)
    return runs


def of_filters(rows: int, folder: Path) -> list[Run]:
    """Run mix again for each filter, on what `of_stages` has standardized in `folder`."""
    runs = []
    for name, value in FILTERS.items():
        for path in (folder / paths.MIX, folder / paths.REMOVED):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        before = _bytes(folder / "data")
        usage = _stage(MIX, rows, folder, {name: value})
        runs.append(Run(rows, 0, f"{MIX}, {name}", usage, _bytes(folder / "data") - before))
        check_rows(folder / paths.MIX, rows)
    return runs


def of_datasets(source: Path, rows: int, number: int, folder: Path) -> Run:
    """Run the program of `datasets` in `folder`, made anew, with one process a core; raises ProgramError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    target = folder / "rows.parquet"
    command = ["-m", "benchmarks.data_speed.datasets_program", str(source), str(target)]
    environment = _environment() | {"HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    usage = run([*command, str(members(rows)), str(cores())], folder, environment)
    check_rows(target, rows)
    return Run(rows, number, DATASETS, usage, target.stat().st_size)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def check_rows(path: Path, rows: int) -> None:
    """Raise ProgramError where the Parquet file, or the folder of such files, has not the members' number."""
    found = pyarrow.dataset.dataset(path, format="parquet").count_rows()
    if found != members(rows):
        raise ProgramError(f"{path} has {found:,} rows, not {members(rows):,} of {rows:,}")


def _stage(name: str, rows: int, folder: Path, filters: Mapping[str, Any]) -> Usage:
    (folder / PARAMS).write_text(json.dumps(params(rows, filters)), encoding="utf-8")  # JSON is YAML
    return run(["-m", f"stages.{name}"], folder, _environment())


def _environment() -> dict[str, str]:
    """Return the environment of a program: all cores of this machine, and no cluster."""
    left = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "SFT_RAY")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return left | {"PYTHONPATH": path}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
