"""Where a stage keeps what it has done so far, so that the next run of the same stage goes on from there.

It is a folder below .dvc/tmp/work, named by a hash of all that the stage's result depends on. It is no
output: DVC deletes outputs before it runs a stage, and `persist: true`, which keeps them, turns the run cache
off. `dvc exp run --temp` and queue tasks run in a copy of the repository; theirs is in the repository
itself.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sft.core import provenance
from sft.core.files import sha256_of
from sft.core.params import load
from stages.cli import PARAMS, PIPELINE

KEPT = 14 * 24 * 3600  # seconds that a folder is kept which nobody has touched


@dataclass(frozen=True)
class Inputs:
    """What dvc.yaml lists for a stage: its command, its deps by their content, its params' values."""

    stage: str
    command: str
    deps: dict[str, str | None]
    params: dict[str, Any]


def inputs_of(stage: str) -> Inputs | None:
    """Return the inputs of a stage of the repository that we are in, None where it has no such stage.

    To be called where the stage begins: files that are edited while it runs are not what it has read.
    """
    stages = load(PIPELINE).get("stages", {}) if Path(PIPELINE).exists() else {}
    if stage not in stages:
        return None
    listed, values = stages[stage], load(PARAMS)
    deps = {path: content(Path(path)) for path in listed.get("deps", [])}
    return Inputs(stage, listed["cmd"], deps, {name: _at(values, name) for name in listed.get("params", [])})


def content(path: Path) -> str | None:
    """Return a hash of a file, or of a folder's files and their names; None where there is neither."""
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        return None
    files = {
        file.relative_to(path).as_posix(): sha256_of(file)
        for file in path.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    return _hash(files)


@contextmanager
def folder(inputs: Inputs | None, others: Mapping[str, str | None]) -> Iterator[Path]:
    """Yield the folder of a stage's inputs, of `others` that only the stage knows, of packages and device.

    It is removed on success and stays on an exception, with what is in it. Of several processes with the same
    inputs each has a folder of its own, the one with the latest work if nobody else has it. Without inputs,
    without a repository of DVC's, or where its folder cannot be written, it is a temporary one.
    """
    root = _repository()
    if inputs is None or root is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    place = root / ".dvc" / "tmp" / "work" / inputs.stage
    try:
        place.mkdir(parents=True, exist_ok=True)
        _remove_old(place)
        path, lock = _take(place, _key(inputs, others))
    except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
        lost = f"what {inputs.stage} has done is lost if it is stopped"
        print(f"warning: {place}: cannot be written ({error}): {lost}.", file=sys.stderr)
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    try:
        yield path
    except BaseException:
        with suppress(OSError):
            path.rmdir()  # where there is nothing in it
        raise
    else:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        if not path.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _repository() -> Path | None:
    """Return the root of the DVC repository: the parent's where DVC runs us in a copy, which it tells."""
    told = os.environ.get("DVC_ROOT")
    here = Path.cwd()
    candidates = [*([Path(told)] if told else []), here, *here.parents]
    return next((path for path in candidates if (path / ".dvc").is_dir()), None)


def _at(values: Any, name: str) -> Any:
    """Return the value of a param by its dotted name, None where there is none."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _key(inputs: Inputs, others: Mapping[str, str | None]) -> str:
    parts = [inputs.command, inputs.deps, inputs.params, dict(others), provenance.versions(), _device()]
    return _hash(parts)[:32]


def _device() -> list[str]:
    """Name what decides the last bits of a result: the GPU, or the processor's instructions and threads."""
    import torch

    if torch.cuda.is_available():
        return [provenance.device_name()]
    instructions = torch.backends.cpu.get_cpu_capability()  # which the environment may limit
    return [provenance.device_name(), instructions, _hash(torch.cpu.get_capabilities())]


def _take(place: Path, key: str) -> tuple[Path, FileLock]:
    """Lock a folder of the key that nobody holds, and return both: the one touched last, else a new one."""
    there = sorted(place.glob(f"{key}-*[0-9]"), key=_touched, reverse=True)
    taken = {path.name for path in there}
    new = (place / name for n in range(len(there) + 1000) if (name := f"{key}-{n}") not in taken)
    for path in [*there, *new]:
        lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=0, fallback_to_soft=False)
        try:
            # The system releases it when the process ends, however it ends.
            lock.acquire()
        except Timeout:
            continue
        path.mkdir(exist_ok=True)
        return path, lock
    raise OSError("a thousand processes hold such a folder")


def _touched(path: Path) -> float:
    """Return when something in a folder was last written, in seconds since 1970."""
    with suppress(OSError):  # it may vanish meanwhile
        return max(file.stat().st_mtime for file in [path, *path.rglob("*")])
    return 0.0


def _remove_old(place: Path) -> None:
    """Remove the folders that nobody holds and nobody has touched for long."""
    for path in place.iterdir():
        if path.suffix == ".lock" or time.time() - _touched(path) < KEPT:
            continue
        lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=0, fallback_to_soft=False)
        with suppress(Timeout), lock:
            shutil.rmtree(path, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)
