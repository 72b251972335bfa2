"""Where a stage keeps what it has done so far, so that the next run of the same stage goes on from there.

It is a folder below .dvc/tmp/work, named by a hash of all that the stage's result depends on. It is no
output: DVC deletes outputs before it runs a stage, and `persist: true`, which keeps them, turns the run cache
off. `dvc exp run --temp` and queue tasks run in a copy of the repository; theirs is in the repository
itself.

A stage's success is not yet recorded: DVC, killed before it has written dvc.lock, runs the stage again. So
its work stays until the next stage that keeps something begins, if DVC has written its lock file by then.
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
from stages.cli import LOCK, PARAMS, PIPELINE

KEPT = 14 * 24 * 3600  # seconds that a folder is kept which nobody has touched
KEPT_OF_COPIES = (
    24 * 3600
)  # and that of a stage which has succeeded, in a copy of the repository that is gone


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

    It stays on an exception, with what is in it, and goes on success, once DVC has recorded that. Of several
    processes with the same inputs each has a folder of its own, the one with the latest work if nobody else
    has it. Without inputs, without a repository of DVC's, or where it cannot be written, it is temporary.
    """
    root = _repository()
    if inputs is None or root is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    place = root / ".dvc" / "tmp" / "work" / inputs.stage
    try:
        place.mkdir(parents=True, exist_ok=True)
        _remove_old(place.parent)
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
        if "DVC_STAGE" in os.environ:  # which DVC sets
            _mark_finished(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        if not path.exists():
            _remove(path)
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
        lock = _lock(path)
        try:
            lock.acquire()
        except Timeout:
            continue
        path.mkdir(exist_ok=True)
        _finished(path).unlink(missing_ok=True)
        return path, lock
    raise OSError("a thousand processes hold such a folder")


def _lock(path: Path) -> FileLock:
    """Return the lock of a folder, which is not waited for; the system releases it when a process ends."""
    return FileLock(path.with_name(f"{path.name}.lock"), timeout=0, fallback_to_soft=False)


def _finished(path: Path) -> Path:
    """Return the file that says of a folder that its stage has succeeded, and when DVC had its lock file."""
    return path.with_name(f"{path.name}.finished")


def _mark_finished(path: Path) -> None:
    lock = Path(LOCK).resolve()
    with suppress(OSError):  # a full disk: then it counts as unfinished
        _finished(path).write_text(json.dumps([str(lock), _written(lock)]))


def _recorded(path: Path) -> bool:
    """Tell whether a folder's stage has succeeded, and DVC has written its lock file since.

    A copy of the repository, of `--temp` and the queue, is gone at the end, however that was: nobody can tell
    from it, so the folder stays for a day.
    """
    finished = _finished(path)
    try:
        lock, then = json.loads(finished.read_text())
        if not Path(lock).parent.exists():
            return time.time() - finished.stat().st_mtime > KEPT_OF_COPIES
        return _written(Path(lock)) != then
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


def _written(lock: Path) -> int:
    """Return when a lock file was written, in nanoseconds since 1970; 0 where it is not there."""
    return lock.stat().st_mtime_ns if lock.exists() else 0


def _touched(path: Path) -> float:
    """Return when something in a folder was last written, in seconds since 1970."""
    with suppress(OSError):  # it may vanish meanwhile
        return max(file.stat().st_mtime for file in [path, *path.rglob("*")])
    return 0.0


def _remove_old(place: Path) -> None:
    """Remove the folders, of any stage, that nobody holds and that are done with or untouched for long."""
    for path in place.glob("*/*-*[0-9]"):
        if _recorded(path) or time.time() - _touched(path) > KEPT:
            with suppress(Timeout), _lock(path):
                _remove(path)


def _remove(path: Path) -> None:
    """Remove a folder that we hold, and what stands beside it."""
    shutil.rmtree(path, ignore_errors=True)
    for beside in (_finished(path), Path(_lock(path).lock_file)):
        beside.unlink(missing_ok=True)
