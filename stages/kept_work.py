"""The folders in which stages keep their work (stages/work.py): where they are, and when they go.

A stage's success is not yet recorded: DVC, killed before it has written dvc.lock, runs the stage again. So
its work stays until another stage begins, if dvc.lock has the stage with the same inputs by then.
"""

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages import inputs

if TYPE_CHECKING:
    from filelock import FileLock

LOCK = "dvc.lock"
KEPT = 14 * 24 * 3600  # seconds that a folder is kept which nobody has touched
# And that of a stage which has succeeded, in a copy of the repository that is gone.
KEPT_OF_COPIES = 24 * 3600


def place() -> Path | None:
    """Return the folder of them all, in the DVC repository: the parent's where DVC runs us in a copy.

    DVC tells which that is. None where there is no repository.
    """
    told = os.environ.get("DVC_ROOT")
    here = Path.cwd()
    candidates = [*([Path(told)] if told else []), here, *here.parents]
    root = next((path for path in candidates if (path / ".dvc").is_dir()), None)
    return root / ".dvc" / "tmp" / "work" if root else None


def lock_of(path: Path) -> "FileLock":
    """Return the lock of a folder, which is not waited for; the system releases it when a process ends."""
    from filelock import FileLock

    return FileLock(path.with_name(f"{path.name}.lock"), timeout=0, fallback_to_soft=False)


def mark_finished(path: Path, entry: dict[str, Any]) -> None:
    """Write beside a folder that its stage has succeeded, and what DVC is to record of its inputs."""
    with suppress(OSError):  # a full disk: then it counts as unfinished
        finished(path).write_text(json.dumps({"lock": str(Path(LOCK).resolve()), **entry}, default=str))


def finished(path: Path) -> Path:
    """Return the file that says of a folder that its stage has succeeded."""
    return path.with_name(f"{path.name}.finished")


def touched(path: Path) -> float:
    """Return when something in a folder was last written, in seconds since 1970."""
    with suppress(OSError):  # it may vanish meanwhile
        return max(file.stat().st_mtime for file in [path, *path.rglob("*")])
    return 0.0


def remove_old(besides: str) -> None:
    """Remove the folders that nobody holds and that are recorded or untouched for long.

    Not those whose name, STAGE/KEY-NUMBER, begins with `besides`: what a run is about to go on from.
    """
    where = place()
    for path in where.glob("*/*-*[0-9]") if where else []:
        if not f"{path.parent.name}/{path.name}".startswith(besides) and _is_done_with(path):
            # Another user's, or just taken by another process, stays.
            with suppress(OSError, NotImplementedError), lock_of(path):
                if _is_done_with(path):  # as it is now that nobody can take it
                    remove(path)


def remove(path: Path) -> None:
    """Remove a folder that we hold, and what stands beside it."""
    shutil.rmtree(path, ignore_errors=True)
    for beside in (finished(path), Path(lock_of(path).lock_file)):
        beside.unlink(missing_ok=True)


def _is_done_with(path: Path) -> bool:
    return _is_recorded(path) or time.time() - touched(path) > KEPT


def _is_recorded(path: Path) -> bool:
    """Tell whether a folder's stage has succeeded, and dvc.lock has it with these inputs.

    A copy of the repository, of `--temp` and the queue, is gone at the end, however that was: nobody can tell
    from it, so the folder stays for a day.
    """
    try:
        entry = json.loads(finished(path).read_text())
        lock = Path(entry["lock"])
        if not lock.parent.exists():
            return time.time() - finished(path).stat().st_mtime > KEPT_OF_COPIES
        return inputs.in_lock({**entry, "stage": path.parent.name}, lock)
    except Exception:  # not there, damaged, or a dvc.lock that is half written: nobody can tell
        return False
