"""What a stage's results are made of: its command, deps and params, as dvc.yaml lists them, when it began.

DVC hashes code and params when a stage has ended, so what is edited while it runs would be recorded, in
dvc.lock and in the run cache, as what its results were made of. And Python reads code when it is imported,
minutes after the beginning. So the files are looked at when the stage begins, and compared later.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pathspec import GitIgnoreSpec

from sft.core.errors import UserError
from sft.core.params import load

PARAMS = "params.yaml"
PIPELINE = "dvc.yaml"
IGNORED = ".dvcignore"  # those in folders below are not read: what they name counts as an input
# Code is no larger. Of a larger file, data, size and time of change tell: hashing it would take seconds.
SMALL = 1 << 20  # bytes


class State(NamedTuple):
    """A file's size in bytes, its time of change in nanoseconds, and the MD5 of a small one."""

    size: int
    changed: int
    md5: str

    def is_of(self, other: "State") -> bool:
        """Tell whether a file has not been changed between two looks at it."""
        return self.md5 == other.md5 if self.md5 and other.md5 else self[:2] == other[:2]


@dataclass(frozen=True)
class Inputs:
    """The inputs of `stage`: its command, its params' values, and its deps with the files of each."""

    stage: str
    command: str
    params: dict[str, Any]
    deps: dict[str, dict[Path, State]]

    def check(self) -> None:
        """Raise UserError where the inputs are no longer those that the stage began with."""
        now = _read(self.stage, self.command, list(self.deps), list(self.params))
        edited = [
            f"{name} {value} -> {now.params[name]}"
            for name, value in self.params.items()
            if value != now.params[name]
        ]
        then, there = self._files(), now._files()
        edited += sorted(
            str(path)
            for path in then.keys() | there.keys()
            if path not in then or path not in there or not then[path].is_of(there[path])
        )
        if edited:
            raise UserError(
                f"{', '.join(edited)}: changed while stage {self.stage} was running, so DVC would record "
                "its results as made of what they were not. To have them of what is there now, run again "
                f"(dvc repro); to keep them, put that back as it was, and: dvc commit --force {self.stage}"
            )

    def entry(self) -> dict[str, Any]:
        """Return what dvc.lock has for them: the command, the MD5 of each dep, None where it is not there.

        Large files are read only here: a later `check` says whether they are still those of the beginning.
        """
        deps = {dep: self._md5(dep) for dep in self.deps}
        return {"cmd": self.command, "deps": deps, "params": self.params}

    def _files(self) -> dict[Path, State]:
        return {path: state for files in self.deps.values() for path, state in files.items()}

    def _md5(self, dep: str) -> str | None:
        """Return a dep's MD5; of a folder that of the list of its files, as DVC writes it to its cache."""
        hashes = {path: state.md5 or _md5_of(path) for path, state in self.deps[dep].items()}
        if Path(dep) in hashes:
            return hashes[Path(dep)]
        if not Path(dep).is_dir():
            return None
        named = sorted((path.relative_to(dep).as_posix(), md5) for path, md5 in hashes.items())
        listed = [{"md5": md5, "relpath": name} for name, md5 in named]
        return hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest() + ".dir"


def in_lock(entry: dict[str, Any], lock: Path) -> bool:
    """Tell whether a dvc.lock has a stage's inputs, `entry` with the stage's name: DVC has recorded it."""
    if not lock.exists():
        return False
    there = load(lock).get("stages", {}).get(entry["stage"], {})
    deps = {dep["path"]: dep.get("md5") for dep in there.get("deps", [])}
    recorded = {"cmd": there.get("cmd"), "deps": deps, "params": there.get("params", {}).get(PARAMS, {})}
    # Both through JSON, which has fewer kinds of values than YAML.
    return all(_as_json(value) == _as_json(entry[name]) for name, value in recorded.items())


_begun: Inputs | None = None


def of(stage: str) -> Inputs | None:
    """Return the inputs of a stage of the repository that we are in, None where it has no such stage.

    They are those of the beginning where DVC runs the stage, else those of now.
    """
    if _begun and _begun.stage == stage:
        return _begun
    stages = load(PIPELINE).get("stages", {}) if Path(PIPELINE).exists() else {}
    if stage not in stages:
        return None
    listed = stages[stage]
    return _read(stage, listed["cmd"], listed.get("deps", []), listed.get("params", []))


@contextmanager
def unchanged() -> Iterator[None]:
    """Look at the inputs of the stage that DVC runs here; raise UserError where they are others at the end.

    There are none where DVC does not run us.
    """
    global _begun
    _begun = of(stage) if (stage := os.environ.get("DVC_STAGE")) else None
    try:
        yield
        if _begun:
            _begun.check()
    finally:
        _begun = None


def _read(stage: str, command: str, deps: list[str], names: list[str]) -> Inputs:
    values = load(PARAMS) if names else {}
    lines = Path(IGNORED).read_text(encoding="utf-8").splitlines() if Path(IGNORED).exists() else []
    ignored = GitIgnoreSpec.from_lines(lines)
    files = {dep: {path: _state(path) for path in _files(Path(dep), ignored)} for dep in deps}
    return Inputs(stage, command, {name: _at(values, name) for name in names}, files)


def _files(dep: Path, ignored: GitIgnoreSpec) -> Iterator[Path]:
    """Yield a dep's files, those that DVC counts: what .dvcignore names, an editor may make at any time."""
    if dep.is_file():
        yield dep
    elif dep.is_dir():
        yield from (path for path in dep.rglob("*") if not ignored.match_file(path) and path.is_file())


def _state(path: Path) -> State:
    found = path.stat()
    return State(found.st_size, found.st_mtime_ns, _md5_of(path) if found.st_size <= SMALL else "")


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _at(values: Any, name: str) -> Any:
    """Return the value of a param by its dotted name, None where there is none."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
