"""What a run leaves: every output's content, compared with another run's, and what should not be there."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.core.params import load
from stages.cli import LOCK, PIPELINE

# The keys of the records of runs that say how long and in how many goes, and not what came out.
OF_THE_RUN = {
    "seconds",
    "tokens_per_second",
    "model_flop_utilisation",
    "steady",
    "peak_memory_gib",
    "resumed_at_steps",
}
RECORDS = "provenance/"
MISSING = "missing"


@dataclass(frozen=True)
class Outcome:
    """The outputs' content by path (a hash; None: missing), and of each stage what the lock says it is of."""

    outputs: dict[str, str | None]
    stages: dict[str, Any]


def outcome(folder: Path) -> Outcome:
    """Read every output that dvc.yaml names, and dvc.lock without the records' hashes."""
    pipeline = load(folder / PIPELINE)["stages"]
    paths = [
        next(iter(out)) if isinstance(out, dict) else out
        for stage in pipeline.values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
    ]
    lock = load(folder / LOCK).get("stages", {}) if (folder / LOCK).exists() else {}
    stages = {
        name: stage | {part: _but_records(stage.get(part, [])) for part in ("deps", "outs")}
        for name, stage in lock.items()
    }
    return Outcome({path: content(folder / path) for path in paths}, stages)


def _but_records(files: list[Any]) -> list[Any]:
    """Return a stage's deps or outs, as the lock has them, but for records: their hashes differ each time."""
    return [file for file in files if not file["path"].startswith(RECORDS)]


def content(path: Path) -> str | None:
    """Return a hash of a file or folder; of a record of a run without what differs from run to run."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        named = "".join(f"{file.relative_to(path)} {content(file)}\n" for file in files)
        return hashlib.sha256(named.encode()).hexdigest()
    if not path.is_file():
        return None
    data = path.read_bytes()
    if path.parent.name == RECORDS.rstrip("/"):
        try:
            record = json.loads(data)
            record.pop("kept", None)  # results of a stopped run
            data = json.dumps(_lasting(record), sort_keys=True).encode()
        except (ValueError, AttributeError):
            return "unreadable"
    return hashlib.sha256(data).hexdigest()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(of) for key, of in value.items() if key not in OF_THE_RUN}
    return value


def differences(expected: Outcome, seen: Outcome) -> list[tuple[str, str]]:
    """Return the outputs that are missing or have another content, and the lock's entries that differ."""
    found = [
        (path, MISSING if seen.outputs.get(path) is None else "another content")
        for path in expected.outputs
        if seen.outputs.get(path) != expected.outputs[path]
    ]
    for name, stage in expected.stages.items():
        other = seen.stages.get(name, {})
        found += [(f"{LOCK}, {name}", f"other {part}") for part in stage if other.get(part) != stage[part]]
    return found


def leftovers(folder: Path, own_work: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return what a user would have to mend, and what only takes room.

    `own_work` are files that the user changed without committing them, with their content.
    """
    broken = [
        f"{name}: the user's own change is gone"
        for name, text in own_work.items()
        if not (folder / name).exists() or text not in (folder / name).read_text(encoding="utf-8")
    ]
    if _git(folder, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD":
        broken.append("HEAD is detached")
    if _git(folder, "diff", "--name-only", "--diff-filter=U"):
        broken.append("files are in conflict")
    partial = sorted(path for path in folder.rglob("*.partial*") if ".git" not in path.parts)
    temporary = sorted(path for path in (folder / ".dvc/tmp/exps").glob("*/tmp*") if path.is_dir())
    temporary += sorted(path for path in (folder / ".dvc/tmp/exps").glob("tmp*") if path.is_dir())
    room = [str(path.relative_to(folder)) for path in partial + temporary]
    # What a stage has kept and has finished with goes when the next stage begins.
    kept = [path for path in (folder / ".dvc/tmp/work").glob("*/*") if path.is_dir()]
    work = [path for path in kept if not path.with_name(f"{path.name}.finished").exists()]
    room += [f"{path.relative_to(folder)} ({_mib(path):.0f} MiB)" for path in sorted(work)]
    if stashed := _git(folder, "stash", "list"):
        room.append(f"git stash: {stashed}")
    return broken, room


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True).stdout.strip()
