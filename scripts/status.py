"""What made the results here, what differs now, and what `dvc repro` would therefore run.

Run as `python -m scripts.status` (`make status`). It changes nothing. Like `git status` and `dvc status` it
exits with 0 whatever it finds, and with 1 where it cannot tell.

Packages of another version and another device run no stage again, for they are among no stage's inputs
(requirements-model.txt, which names some, is): they are said because a new run may have other results.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from scripts.experiment_state import EXEC, reference
from scripts.last_run import duration, record, seconds
from scripts.machine import device_class
from scripts.merge_state import merging
from scripts.repro_forecast import Does, Forecast, forecast
from scripts.revisions import git, succeeds
from scripts.stage_entries import locked_entries, opened
from scripts.unfinished import unfinished
from sft.core import provenance
from sft.core.errors import UserError
from stages.cli import LOCK, described

SHOWN = 5  # reasons of a stage
CONFLICT = "in conflict"


def status() -> list[str]:
    """Return what to print; raise UserError where DVC cannot read the pipeline."""
    in_git = state_of_lock()
    if in_git == CONFLICT:
        return [f"{LOCK}: {CONFLICT}. Resolve what else is in conflict, then: make merge-lock"]
    if reference(f"{EXEC}/EXEC_BASELINE"):
        in_git += ". A `dvc exp run` is running here, or was killed: make rescue"
    with opened() as stages:
        found = forecast(stages, locked_entries())
    lines = [f"{LOCK}: {in_git}", *made_by(list(found)), ""]
    lines += [line for name, one in found.items() for line in _stage(name, one)]
    runs = [name for name, one in found.items() if one.does is Does.RUNS]
    may = [name for name, one in found.items() if one.does is Does.MAY_RUN]
    lines.append("")
    if runs or may:
        lines.append(f"{LOCK} is behind: {_cost(runs, may)}")
    elif any(one.does is not Does.NOTHING for one in found.values()):
        lines.append("`dvc repro` runs nothing: it takes outputs of earlier runs.")
    else:
        lines.append("Up to date: `dvc repro` has nothing to do.")
    if any(one.restorable for one in found.values()):
        lines.append("An earlier run of the same inputs is in the run cache: `make restore` spares that run.")
    elif any("not in DVC's cache" in reason for one in found.values() for reason in one.why):
        lines.append("What is not in the cache may be in a remote: `make restore` asks it.")
    lines += unfinished()
    if (runs or may) and merging() is None and succeeds("rev-parse", "--verify", "--quiet", "HEAD^2"):
        lines.append("HEAD is a merge: `make merge-lock` takes what either side has run.")
    return lines


def state_of_lock() -> str:
    """Say how Git has dvc.lock: committed, changed, or in conflict."""
    if not Path(LOCK).exists():
        return "missing: nothing has run, or nothing was committed"
    state = git("status", "--porcelain", "--", LOCK)[:2]
    if "U" in state or state in ("AA", "DD"):
        return CONFLICT
    if not state:
        return "committed"
    return "not in Git yet: git add" if state == "??" else "changed since the last commit, and not committed"


def made_by(stages: list[str]) -> list[str]:
    """Say what the stages recorded of device and packages, and what of these is another one now."""
    records = {name: record(name) for name in stages}
    now = provenance.versions()
    devices = sorted({str(one["device"]) for one in records.values() if one.get("device")})
    versions: dict[str, Any] = {}
    for one in records.values():
        versions |= one.get("versions") or {}
    if not versions:
        return []
    named = ", ".join(
        f"{name} {versions[name]}" for name in ("python", "torch", "transformers", "trl") if name in versions
    )
    lines = [f"made by: {named}, on {', '.join(devices) or 'a device that is not recorded'}"]
    others = {
        f"{package} {version} (now {now.get(package, 'not installed')})"
        for one in records.values()
        for package, version in (one.get("versions") or {}).items()
        if now.get(package) != version
    }
    if others:
        lines.append(f"  another version now: {', '.join(sorted(others))}")
    here = device_class()
    if elsewhere := [device for device in devices if _class_of(device) != here]:
        lines.append(f"  another device now: {here}, not {', '.join(elsewhere)}")
    return lines


def _class_of(device: str) -> str:
    """Return a recorded device's class: all CPUs are one."""
    return "cpu" if device.startswith("cpu") else device


def _stage(name: str, one: Forecast) -> list[str]:
    why = "; ".join(one.why[:SHOWN]) + (f"; and {len(one.why) - SHOWN} more" if len(one.why) > SHOWN else "")
    return [f"  {name:<12} {one.does.value}" + (f": {why}" if why else "")]


def _cost(runs: list[str], may: list[str]) -> str:
    parts = []
    for names, what in ((runs, "runs"), (may, "may run")):
        if names:
            took = sum(seconds(name) for name in names)
            parts.append(
                f"{what} {', '.join(names)}" + (f", which took {duration(took)} last time" if took else "")
            )
    return f"`dvc repro` {'; it '.join(parts)}."


def main() -> None:
    """Print the screen."""
    argparse.ArgumentParser(
        prog="python -m scripts.status", description=(__doc__ or "").split("\n\n")[0]
    ).parse_args()
    try:
        print("\n".join(status()), flush=True)
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    except BrokenPipeError:  # read by `head`, which wants no more; Python would complain at its end, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
