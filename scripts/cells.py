"""Run a study's cells on a machine without DVC: regimes x sizes x replicates, through the stages.

    python -m scripts.cells FOLDER --sizes 100k 300k --replicates 5 [--regime PARAM=VALUE ...] [--jobs 4]

A regime is what else its cells change in params.yaml; --regime may be given several times, and --replicates
then takes a number for each. Reads params.yaml, data/standardized/ and data/holdout/ of the working
directory. Each cell gets its folder, FOLDER/NAME, with its params, metrics, plots, adapter, answers and what
the stages printed (log.txt); replicate N has N added to data.seed and train.seed. Cells that are finished,
with these very params, are left as they are, so an interrupted study goes on where it stopped.
`python -m scripts.study --from FOLDER/*` reports on what is there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sft.cells import Cell, applied, plan, regime
from sft.errors import UserError
from sft.params import load

ROOT = Path(__file__).resolve().parent.parent
STANDARDIZED = ("data/standardized", "data/holdout")


def main() -> None:
    """Run the base model's evaluation once, then every cell that is not finished."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="+", required=True)
    parser.add_argument("--replicates", nargs="+", type=int, default=[3])
    parser.add_argument("--regime", nargs="+", action="append", metavar="PARAM=VALUE")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, on one GPU together")
    arguments = parser.parse_args()
    try:
        values = load("params.yaml")
        regimes = [regime(values, texts) for texts in arguments.regime or [[]]]
        cells = plan(values, arguments.sizes, arguments.replicates, regimes)
        for name in STANDARDIZED:
            if not Path(name).is_dir():
                raise UserError(f"{name}: no such folder. Run the stage that writes it, standardize, first.")
        base = prepared(arguments.folder.with_name(f"{arguments.folder.name}-base"), values)
        if not finished(base, "baseline", values):
            run(base, values, [("stages.evaluate", "base")])
        with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
            runs = [
                pool.submit(run_cell, cell, applied(values, cell.changes), arguments.folder, base)
                for cell in cells
            ]
        faults = [fault for fault in (run.exception() for run in runs) if fault]
        for fault in faults:
            if not isinstance(fault, UserError):
                raise fault
        if faults:
            raise UserError("\n".join(map(str, faults)))
    except UserError as error:
        sys.exit(f"error: {error}")


def run_cell(cell: Cell, params: dict[str, Any], folder: Path, base: Path) -> None:
    """Run one cell's stages, if it is not finished."""
    at = prepared(folder / cell.name, params)
    if finished(at, "evaluate", params):
        print(f"{cell.name}: finished", flush=True)
        return
    print(f"{cell.name} ...", flush=True)
    start = time.perf_counter()
    shutil.copy(base / "metrics/baseline.json", at / "metrics/baseline.json")
    run(at, params, [("stages.mix",), ("stages.train",), ("stages.evaluate", "adapter")])
    (at / "data/mix.parquet").unlink()  # hundreds of megabytes in a large study
    print(f"{cell.name}: finished in {time.perf_counter() - start:.0f} s", flush=True)


def prepared(folder: Path, params: dict[str, Any]) -> Path:
    """Make a cell's folder, with the standardized data in it; empty it where it has other params."""
    if (folder / "params.yaml").exists() and load(folder / "params.yaml") != params:
        shutil.rmtree(folder)
    for name in ("data", "metrics", "models", "plots"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    model = params["model"]["reference"]
    for name in (*STANDARDIZED, *([model] if Path(model).is_dir() and not Path(model).is_absolute() else [])):
        if not (folder / name).exists():
            (folder / name).symlink_to(Path(name).resolve())
    return folder


def finished(folder: Path, name: str, params: dict[str, Any]) -> bool:
    """Tell whether the cell's last stage has written its metrics, which it does at its end."""
    return (folder / "metrics" / f"{name}.json").exists() and load(folder / "params.yaml") == params


def run(folder: Path, params: dict[str, Any], stages: list[tuple[str, ...]]) -> None:
    """Run stages in the cell's folder; raise UserError with what one said that failed."""
    (folder / "params.yaml").write_text(json.dumps(params, indent=2) + "\n")  # JSON is YAML
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        for stage in stages:
            command = [sys.executable, "-m", *stage]
            environment = {**os.environ, "PYTHONPATH": path}
            if subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=file).returncode:
                last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise UserError(
                    f"{folder}: {' '.join(stage)} failed: {' '.join(last)} ({log} has the rest.) "
                    "Mend it and run this command again."
                )


if __name__ == "__main__":
    main()
