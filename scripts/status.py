"""What made the results here, what differs now, and what `dvc repro` would therefore run.

Run as `python -m scripts.status` (`make status`). It changes nothing. Like `git status` and `dvc status` it
exits with 0 whatever it finds, and with 1 where it cannot tell.

Packages of another version and another device run no stage again, for they are among no stage's inputs
(requirements-model.txt, which names some, is): they are said because a new run may have other results.
"""

from pathlib import Path
from typing import Any

from scripts import command
from scripts.experiment_state import EXEC, reference
from scripts.last_run import duration, last_record, record, seconds
from scripts.lock_entries import Entry, locked_entries
from scripts.machine import device_class
from scripts.merge_lock import RUN_CACHE, choose, lock_of
from scripts.merge_state import last_merge, merging
from scripts.repro_forecast import Does, Forecast, forecast
from scripts.revisions import git
from scripts.stage_entries import Stages, opened
from scripts.unfinished import unfinished
from sft.core import provenance
from stages.cli import LOCK

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
        lock = locked_entries()
        found = forecast(stages, lock)
        runs = [name for name, one in found.items() if one.does in (Does.RUNS, Does.MAY_RUN)]
        taken = _to_take(stages, lock, runs)
    lines = [f"{LOCK}: {in_git}", *made_by(list(found)), ""]
    lines += [line for name, one in found.items() for line in _stage(name, one)]
    recording = {name for name in found if f"provenance/{name}.json" in stages.outs(name)}
    lines += ["", *_summary(found, recording)]
    lines += unfinished()
    if taken:
        lines.append(f"HEAD is a merge: `make merge-lock` takes what a side has run: {', '.join(taken)}.")
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


def _summary(found: dict[str, Forecast], recording: set[str]) -> list[str]:
    """Say what `dvc repro` would do, and how to do with less; stages in `recording` record their time."""
    runs = [name for name, one in found.items() if one.does is Does.RUNS]
    may = [name for name, one in found.items() if one.does is Does.MAY_RUN]
    changed = any(one.changed for one in found.values())
    lacking = any("not in DVC's cache" in reason for one in found.values() for reason in one.why)
    if not runs:
        taken = any(one.does is not Does.NOTHING for one in found.values())
        takes = "`dvc repro` runs nothing: it takes outputs of earlier runs."
        lines = [takes if taken else "Up to date: `dvc repro` has nothing to do."]
    else:
        what = f"{LOCK} is behind: "
        if not changed:
            what = "Nothing has changed, but outputs are not here: `make restore` gets what a remote has, "
        parts = [
            f"{does} {', '.join(names)}{_time(names, found, recording)}"
            for names, does in ((runs, "runs"), (may, "may run"))
            if names
        ]
        lines = [f"{what}`dvc repro` {'; it '.join(parts)}."]
    if any(one.restorable for one in found.values()):
        lines.append("An earlier run of the same inputs is in the run cache: `make restore` spares that run.")
    elif lacking and changed:
        lines.append("What is not in the cache may be in a remote: `make restore` asks it.")
    return lines


def _time(names: list[str], found: dict[str, Forecast], recording: set[str]) -> str:
    """Say how long stages took last, and where that tells little of the next time."""
    took = sum(seconds(name) for name in names)
    said = f", which took {duration(took)} last time" if took else ""
    if others := [name for name in names if found[name].other_params and seconds(name)]:
        said += f" ({', '.join(others)} with other params)"
    if unknown := [name for name in names if name in recording and not last_record(name)]:
        said += f"; the time of {', '.join(unknown)} is unknown"
    return said


def _to_take(stages: Stages, lock: dict[str, Entry], runs: list[str]) -> list[str]:
    """Name those of the stages to run that a side has run, where HEAD is a merge."""
    merge = last_merge() if runs and merging() is None else None
    if merge is None:
        return []
    taken = choose(stages, {commit: side for commit in merge.sides if (side := lock_of(commit))})
    return [
        name
        for name in runs
        if taken.whose.get(name, RUN_CACHE) != RUN_CACHE and taken.entries[name] != lock.get(name)
    ]


if __name__ == "__main__":
    command.run("status", __doc__, status)
