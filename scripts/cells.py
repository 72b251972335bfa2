"""Run a study's cells on a machine without DVC: sizes x replicates, one after another, through the stages.

    python -m scripts.cells FOLDER --sizes 100k 300k --replicates 5 [--set train.budget="1 epoch" ...]

Reads params.yaml, data/standardized/ and data/holdout/ of the working directory. Each cell gets its folder,
FOLDER/SIZE-N, with its params, metrics, plots, adapter and answers; replicate N has N added to data.seed and
train.seed. Cells that are finished, with these very params, are left as they are, so an interrupted study
goes on where it stopped. `python -m stages.compare FOLDER/*` compares what is there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sft.errors import UserError
from sft.params import load

ROOT = Path(__file__).resolve().parent.parent
STANDARDIZED = ("data/standardized", "data/holdout")


def main() -> None:
    """Run the base model's evaluation once, then every cell that is not finished."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="+", required=True)
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="PARAM=VALUE", dest="changes")
    arguments = parser.parse_args()
    try:
        values = load("params.yaml")
        for change in arguments.changes:
            name, _, value = change.partition("=")
            change_param(values, name, YAML(typ="safe", pure=True).load(value))
        for name in STANDARDIZED:
            if not Path(name).is_dir():
                raise UserError(f"{name}: no such folder. Run the stage that writes it, standardize, first.")
        cells = {
            f"{size}-{replicate}": cell_params(values, size, replicate)
            for replicate in range(arguments.replicates)
            for size in arguments.sizes
        }
        base = cell(arguments.folder.with_name(f"{arguments.folder.name}-base"), values)
        if not finished(base, "baseline", values):
            run(base, values, [("stages.evaluate", "base")])
        for name, params in cells.items():
            folder = cell(arguments.folder / name, params)
            if finished(folder, "evaluate", params):
                print(f"{name}: finished", flush=True)
                continue
            print(f"{name} ...", flush=True)
            shutil.copy(base / "metrics/baseline.json", folder / "metrics/baseline.json")
            run(folder, params, [("stages.mix",), ("stages.train",), ("stages.evaluate", "adapter")])
            (folder / "data/mix.parquet").unlink()  # hundreds of megabytes in a large study
    except UserError as error:
        sys.exit(f"error: {error}")


def change_param(values: dict[str, Any], name: str, value: Any) -> None:
    """Set the param of this dotted name; raise UserError where there is none."""
    *groups, leaf = name.split(".")
    at: Any = values
    for group in groups:
        at = at.get(group) if isinstance(at, dict) else None
    if not isinstance(at, dict) or leaf not in at:
        raise UserError(f"--set {name}: params.yaml has no such param. Is it misspelt?")
    at[leaf] = value


def cell_params(values: dict[str, Any], size: str, replicate: int) -> dict[str, Any]:
    """Return the params of a cell: its size, and seeds of its own."""
    params = json.loads(json.dumps(values))
    params["data"]["size"] = size
    params["data"]["seed"] += replicate
    params["train"]["seed"] += replicate
    return params


def cell(folder: Path, params: dict[str, Any]) -> Path:
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
    """Run stages in the cell's folder; raise UserError where one fails, which has then said why."""
    (folder / "params.yaml").write_text(json.dumps(params, indent=2) + "\n")  # JSON is YAML
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for stage in stages:
        command = [sys.executable, "-m", *stage]
        if subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}).returncode:
            raise UserError(f"{folder}: {' '.join(stage)} failed. Mend it and run this command again.")


if __name__ == "__main__":
    main()
