"""Is dvc.lock of this code and these params? What DVC says, read where the data may be missing.

By `dvc status --json`. `dvc repro --dry --allow-missing` exits with 0 whatever it would run, and says nothing
of a stage whose inputs are missing. The status tells what differs, stage by stage, and here it is decided
which differences only mean that this clone has no data. tests/scripts/test_dvc_gate.py holds DVC to it.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import raw_data
from scripts.revisions import Side
from sft.core.errors import UserError
from sft.core.params import load
from stages.cli import LOCK, PIPELINE
from stages.paths import RAW

# Of an output: it is not here. That is no change.
MISSING = ("deleted", "not in cache")
# Stages that read the params of others and make no result of them.
CHECK, CARD = "check", "card"


@dataclass(frozen=True)
class Freshness:
    """Whether dvc.lock is up to date: no stage in `behind`.

    `behind` has what differs from each stage's run: params, files and folders, "its command". `unchecked` are
    folders under data/raw that DVC tracks and this clone lacks, where Git's history does not tell whether
    data/raw is what was read.
    """

    behind: dict[str, list[str]]
    unchecked: list[str]


def freshness(folder: Path | str = ".") -> Freshness:
    """Compare dvc.lock with the code and params in a folder; raise UserError where DVC cannot.

    No data is needed. A stage that would only follow another's run is not named.
    """
    folder = Path(folder)
    status = json.loads(_dvc("status", "--json", folder=folder) or "{}")
    lock = _stages(folder / LOCK)
    kept_by_git = _kept_by_git(_stages(folder / PIPELINE))
    made = {out["path"]: out for stage in lock.values() for out in stage.get("outs", [])}
    lacking = raw_data.absent(folder)
    behind, unchecked = {}, False
    for name, entries in status.items():
        locked = lock.get(name, {})
        found = _differences(entries, locked, made, kept_by_git)
        if lacking and RAW in found and (read := _content(_read(locked).get(RAW))):
            # That files are absent is no change, and DVC does not tell it from one.
            changed = raw_data.is_changed(folder, read, lacking)
            unchecked |= changed is None
            found = found if changed else [path for path in found if path != RAW]
        if found:
            behind[name] = found
    _leave_out_what_makes_no_result(behind)
    return Freshness(behind, sorted(lacking) if unchecked else [])


def _leave_out_what_makes_no_result(behind: dict[str, list[str]]) -> None:
    """Leave the stages check and card out where others are behind for the same reasons."""
    elsewhere = {path for name, found in behind.items() if name not in (CHECK, CARD) for path in found}
    for name in (CHECK, CARD):
        if set(behind.get(name, [])) <= elsewhere:
            behind.pop(name, None)


def metrics_diff(base: Side, head: Side) -> str:
    """Return DVC's table of the metrics that differ, as Markdown; raise UserError where it cannot."""
    revisions = [base.commit] if head.workspace else [base.commit, head.commit]
    return _dvc("metrics", "diff", "--md", *revisions).strip()


def _differences(
    entries: list[Any], locked: dict[str, Any], made: dict[str, Any], kept_by_git: set[str]
) -> list[str]:
    """Return what of a stage's status is a change, and no lack of data."""
    found = []
    read = _read(locked)
    for entry in entries:
        if not isinstance(entry, dict):
            found.append("its command" if entry == "changed command" else entry)
            continue
        for path, what in entry.get("changed deps", {}).items():
            if isinstance(what, dict):  # a params file: its params
                found += what
            elif what == "deleted" and path in made:
                # Not here, but the lock says what was made last and what this stage has read.
                if _content(read.get(path)) != _content(made[path]):
                    found.append(path)
            else:
                found.append(path)
        written = {out["path"] for out in locked.get("outs", [])}
        for path, what in entry.get("changed outs", {}).items():
            new = bool(locked) and path not in written  # dvc.yaml has come to name it
            if what not in MISSING or new or path in kept_by_git:
                found.append(path)
    return found


def _read(locked: dict[str, Any]) -> dict[str, Any]:
    return {dep["path"]: dep for dep in locked.get("deps", [])}


def _content(entry: dict[str, Any] | None) -> Any:
    return entry and entry.get("md5")


def _kept_by_git(stages: dict[str, Any]) -> set[str]:
    """Return the outputs that are in Git, where a clone has them: those of `cache: false`."""
    return {
        path
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
        if isinstance(out, dict)
        for path, options in out.items()
        if (options or {}).get("cache") is False
    }


def _stages(path: Path) -> dict[str, Any]:
    return (load(path).get("stages") or {}) if path.exists() else {}


def _dvc(*arguments: str, folder: Path | str = ".") -> str:
    env = os.environ | {"DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if result.returncode:
        said = result.stderr.strip().removeprefix("ERROR: ")
        raise UserError(f"dvc {' '.join(arguments[:2])} failed: {said}")
    return result.stdout
