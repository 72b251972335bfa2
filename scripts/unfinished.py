"""The stages that were stopped and those that run, by what they keep in .dvc/tmp/work (stages/work.py)."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil

from scripts import kept_work


def unfinished() -> list[str]:
    """Name the stages that are running, and those that were stopped and have kept what they had done."""
    folders = kept_work.unfinished()
    in_use = set(_open_files()) if folders else set()
    lines = []
    for folder in folders:
        if folder.with_name(f"{folder.name}.lock").resolve() in in_use:
            lines.append(f"Stage {folder.parent.name} is running.")
        elif files := [file for file in folder.rglob("*") if file.is_file()]:
            last = datetime.fromtimestamp(max(file.stat().st_mtime for file in files))
            when = f"{last:%Y-%m-%d %H:%M}"
            lines.append(
                f"Stage {folder.parent.name} was stopped {when}: with the same inputs it goes on there."
            )
    return lines


def _open_files() -> Iterator[Path]:
    """Yield the files that this user's processes have open: a lock's, for as long as it is held.

    To try the lock would tell, too, but a stage that begins at that moment would take a new folder.
    """
    for process in psutil.process_iter():
        try:
            yield from (Path(file.path) for file in process.open_files())
        except (psutil.Error, OSError):  # another user's, or it has just ended
            continue
