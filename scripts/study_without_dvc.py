"""A study's runs on a machine without DVC: conditions x sizes x replicates, through the stages.

    python -m scripts.study_without_dvc FOLDER --sizes 100k 300k --replicates 5
        [--condition PARAM=VALUE ...] [--devices 0,1 | --jobs 4]

A condition is what else its runs change in params.yaml; --condition may be given several times, and
--replicates then takes a number for each. Reads params.yaml, data/standardized/ and data/holdout/ of the
working directory. Each run gets its folder, FOLDER/NAME, with its params, metrics, plots, adapter, answers
and what the stages printed (log.txt); replicate N has N added to data.seed and train.seed. Runs that are
finished, with these very params, are left as they are, so an interrupted study goes on where it stopped;
where the code or the data have changed since, it says so, and inputs.json has their hashes.
`python -m scripts.study --from FOLDER/*` reports on what is there.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scripts import at_once
from scripts.compat import folder_hash
from scripts.results import INPUTS
from sft.core.errors import UserError
from sft.core.files import read_json, write_json
from sft.core.params import load
from sft.study.plan import applied, condition, plan
from sft.study.results import Inputs
from stages.cli import PARAMS, described
from stages.paths import (
    BASE,
    EVALUATION,
    EXTRA,
    METRICS_BASELINE,
    METRICS_EVALUATE,
    MIX,
    SCORES_BASELINE,
    VALIDATION,
)

ROOT = Path(__file__).resolve().parent.parent
STANDARDIZED = tuple(str(Path(file).parent) for file in (BASE, EVALUATION))  # the folders


def main() -> None:
    """Run the base model's evaluation once, then every run that is not finished."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="+", required=True)
    parser.add_argument("--replicates", nargs="+", type=int, default=[3])
    parser.add_argument("--condition", nargs="+", action="append", metavar="PARAM=VALUE")
    where = parser.add_mutually_exclusive_group()
    at_once.add_option(where)
    where.add_argument(
        "--jobs", type=int, default=1, help="runs at a time, all on what there is: one GPU, or none"
    )
    arguments = parser.parse_args()
    try:
        values = load(PARAMS)
        conditions = [condition(values, texts) for texts in arguments.condition or [[]]]
        runs = plan(values, arguments.sizes, arguments.replicates, conditions)
        for name in STANDARDIZED:
            if not Path(name).is_dir():
                raise UserError(f"{name}: no such folder. Run the stage that writes it, standardize, first.")
        jobs = arguments.jobs if arguments.devices is None else at_once.share(arguments.devices)
        at: Path = arguments.folder.resolve()
        base = at.with_name(f"{at.name}-base")
        with held(base):
            prepared(base, values)
            if not finished(base, METRICS_BASELINE, values):
                run_stages(base, values, [("stages.evaluate", "base")])
        at_once.run(
            [partial(do, at / run.name, applied(values, run.changes), base) for run in runs], max(1, jobs)
        )
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted: start it again and it goes on from here")


def do(folder: Path, params: dict[str, Any], base: Path) -> None:
    """Do one run's stages, if it is not finished and nothing was interrupted."""
    if at_once.interrupted.is_set():
        return
    with held(folder):
        prepared(folder, params)
        if finished(folder, METRICS_EVALUATE, params):
            same = (folder / INPUTS).exists() and read_json(folder / INPUTS) == asdict(inputs())
            say(f"{folder.name}: finished" + ("" if same else ", by other code or on other data than now"))
            return
        say(f"{folder.name} ...")
        start = time.perf_counter()
        shutil.copy(base / SCORES_BASELINE, folder / SCORES_BASELINE)
        run_stages(folder, params, [("stages.mix",), ("stages.train",), ("stages.evaluate", "adapter")])
        shutil.rmtree(folder / MIX)  # hundreds of megabytes in a large study
        say(f"{folder.name}: finished in {time.perf_counter() - start:.0f} s")


def say(line: str) -> None:
    """Print a line whole, whatever other threads print."""
    print(f"{line}\n", end="", flush=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from a run's folder; raise UserError where one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"{folder}: another process is at work on this run.") from error


def prepared(folder: Path, params: dict[str, Any]) -> None:
    """Make a run's folder, with the standardized data in it; raise UserError where it has other params."""
    if (folder / PARAMS).exists() and load(folder / PARAMS) != params:
        raise UserError(
            f"{folder}: a run of other params. Choose another folder for this study, or remove that one."
        )
    for name in ("data", "metrics", "models", "plots", "provenance", "scores"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    model = params["model"]["reference"]
    for name in (*STANDARDIZED, *([model] if Path(model).is_dir() and not Path(model).is_absolute() else [])):
        if not (folder / name).exists():
            (folder / name).symlink_to(Path(name).resolve())


@cache
def inputs() -> Inputs:
    """Hash the data that a run's results come from, as DVC does (MD5), and the code."""
    digest = hashlib.sha256()
    code = [path for name in ("sft", "stages") for path in sorted((ROOT / name).rglob("*.py"))]
    for path in [*code, ROOT / "requirements-model.txt"]:
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    hashes = {name: folder_hash(Path(name)) for name in (BASE, EXTRA)}
    hashes |= {name: hashlib.md5(Path(name).read_bytes()).hexdigest() for name in (EVALUATION, VALIDATION)}
    return Inputs(hashes, {"sft and stages": digest.hexdigest()})


def finished(folder: Path, metrics: str, params: dict[str, Any]) -> bool:
    """Tell whether the run's last stage has written its metrics, which it does at its end."""
    return (folder / metrics).exists() and load(folder / PARAMS) == params


def run_stages(folder: Path, params: dict[str, Any], stages: list[tuple[str, ...]]) -> None:
    """Run stages in the run's folder; raise UserError with what one said that failed."""
    (folder / PARAMS).write_text(json.dumps(params, indent=2) + "\n")  # JSON is YAML
    write_json(folder / INPUTS, asdict(inputs()))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        for stage in stages:
            if at_once.interrupted.is_set():
                raise UserError(f"{folder}: interrupted.")
            command = [sys.executable, "-m", *stage]
            environment = {**os.environ, "PYTHONPATH": path}
            done = subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=file)
            if done.returncode == -signal.SIGINT:
                at_once.interrupted.set()
            if done.returncode:
                last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise UserError(
                    f"{folder}: {' '.join(stage)} failed: {' '.join(last)} ({log} has the rest.) "
                    "Mend it and run this command again."
                )


if __name__ == "__main__":
    main()
