"""The runs of a study, each an experiment of DVC's: which are finished, and doing the others."""

import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from scripts import at_once
from scripts.compat import experiment_reference
from scripts.revisions import git, succeeds
from sft.core.errors import UserError
from sft.core.params import load, parse
from sft.study.plan import Run, applied
from stages.cli import PARAMS, PIPELINE

LOGS = Path(".dvc/tmp/study")  # what runs print that are done at the same time


def run_all(runs: list[Run], values: dict[str, Any], at_a_time: int = 1) -> dict[str, str]:
    """Do the runs that are not finished; return the commit of each one's experiment.

    Raises UserError where runs failed, once the others are done.
    """
    if not shutil.which("dvc"):
        raise UserError("dvc is not on the PATH. Activate the environment: . .venv/bin/activate")
    head = git("rev-parse", "HEAD").strip()
    references = {run.name: experiment_reference(head, f"study-{run.name}") for run in runs}
    jobs = []
    for number, run in enumerate(runs, 1):
        label = f"[{number}/{len(runs)}] {run.name}"
        if finished(references[run.name], applied(values, run.changes)):
            print(f"{label}: finished", flush=True)
        else:
            jobs.append(partial(_do, run, references[run.name], label, at_a_time > 1))
    at_once.run(jobs, at_a_time)
    return {name: git("rev-parse", reference).strip() for name, reference in references.items()}


def _do(run: Run, reference: str, label: str, in_log: bool) -> None:
    """Do a run; its experiment takes the place of an earlier one only when it is there."""
    if at_once.interrupted.is_set():
        return
    print(f"{label} ...\n", end="", flush=True)
    new, log = f"{reference}-new", LOGS / f"{run.name}.log"
    name = new.rpartition("/")[2]
    changes = [change for param, value in run.changes.items() for change in set_params(param, value)]
    git("update-ref", "-d", new)  # left over from a run that was killed
    # Not `dvc exp run --temp`, of which two at once may do each other's work.
    command = [sys.executable, "-m", "scripts.experiment_in_copy", "--name", name, *changes]
    start = time.perf_counter()
    if in_log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    else:
        status = subprocess.run(command).returncode
    if status == -signal.SIGINT:  # before DVC could say so itself
        at_once.interrupted.set()
    if status:
        where = str(log) if in_log else "above"
        raise UserError(f"{run.name} failed, see {where}. Mend it and run this command again.")
    git("update-ref", reference, new)
    git("update-ref", "-d", new)
    if in_log:
        print(f"{label}: finished in {time.perf_counter() - start:.0f} s\n", end="", flush=True)


def finished(ref: str, params: dict[str, Any]) -> bool:
    """Tell whether there is an experiment of these params and the workspace's own code."""
    if not succeeds("rev-parse", "--quiet", "--verify", ref):
        return False
    if parse(git("show", f"{ref}:{PARAMS}"), f"{PARAMS} of {ref}") != params:
        return False
    stages = load(PIPELINE)["stages"].values()
    inputs = {path for stage in stages for path in stage.get("deps", [])}
    outputs = {
        path if isinstance(path, str) else next(iter(path))
        for stage in stages
        for kind in ("outs", "metrics", "plots")
        for path in stage.get(kind, [])
    }
    return succeeds("diff", "--quiet", ref, "--", PIPELINE, *sorted(inputs - outputs))


def set_params(param: str, value: Any) -> list[str]:
    """Return DVC's arguments that give a param its value.

    DVC merges a mapping into the one that is there, unless that is replaced by something else before.
    """
    if not isinstance(value, dict):
        return [f"--set-param={param}={value if isinstance(value, str) else json.dumps(value)}"]
    entries = ", ".join(f"{key}: {json.dumps(of)}" for key, of in value.items())  # keys without quotes
    return [f"--set-param={param}=none", f"--set-param={param}={{{entries}}}"]
