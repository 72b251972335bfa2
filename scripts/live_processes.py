"""The processes of this repository: DVC's commands, and stages whose DVC is gone."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from sft.core.errors import UserError

# How long a stage may take to save where it is, once it was told to stop.
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Command:
    """A process: its number, its command line, and whether it works for the queue."""

    pid: int
    line: str
    queue: bool = False


def dvc_commands(root: Path) -> list[Command]:
    """Return the DVC commands that are running in the repository `root`, or in a temporary copy below it."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process, words, folder in _processes():
        if process.pid not in own and is_dvc(words) and folder.is_relative_to(root):
            queue = "queue-worker" in words or "exec-run" in words or {"queue", "start"} <= set(words)
            found.append(Command(process.pid, " ".join(words[1:]), queue))
    return found


def stop_orphans(root: Path) -> list[str]:
    """Stop the stages that outlived the DVC that started them; say which.

    Their results would be lost: DVC runs a stage anew that it did not see end. They are sent SIGTERM, so
    that a stage may save where it is. Raises UserError where one does not stop.
    """
    orphans = {
        process: stage
        for process, words, _ in _processes()
        if (stage := _stage_of(process, root)) and not is_dvc(words)
        if not any(map(_runs_dvc, _parents(process)))
    }
    # Processes that a stage has started end with it.
    stages = {one: stage for one, stage in orphans.items() if orphans.keys().isdisjoint(_parents(one))}
    for process in stages:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(stages, timeout=PATIENCE)
    if alive:
        numbers = ", ".join(f"{one.pid} ({stages[one]})" for one in alive)
        raise UserError(f"Stages that went on without DVC do not stop. End these processes: {numbers}")
    return [
        f"Stopped stage {stage}, which went on without DVC (process {one.pid})."
        for one, stage in stages.items()
    ]


def pids_of_git(root: Path) -> list[int]:
    """Return the Git commands that are running in the repository."""
    return [
        process.pid
        for process, words, folder in _processes()
        if Path(words[0]).name == "git" and folder.is_relative_to(root)
    ]


def _processes() -> Iterator[tuple[psutil.Process, list[str], Path]]:
    """Yield this user's processes with command line and folder, as far as these can be read."""
    for process in psutil.process_iter():
        try:
            words, folder = process.cmdline(), Path(process.cwd())
        except (psutil.Error, OSError):
            continue
        if words and process.status() != psutil.STATUS_ZOMBIE:
            yield process, words, folder


def is_dvc(words: list[str]) -> bool:
    """Tell whether a command line is DVC's: `dvc ...`, `python .../dvc ...` or `python -m dvc ...`."""
    return any(Path(word).name == "dvc" for word in words[:2]) or words[1:3] == ["-m", "dvc"]


def _runs_dvc(process: psutil.Process) -> bool:
    try:
        return is_dvc(process.cmdline())
    except psutil.Error:
        return False


def _parents(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.parents()
    except psutil.Error:
        return []


def _stage_of(process: psutil.Process, root: Path) -> str | None:
    """Return the stage that DVC started a process for in this repository; None for any other process."""
    try:
        env = process.environ()
    except (psutil.Error, OSError):
        return None
    of = env.get("DVC_ROOT")
    return env.get("DVC_STAGE") if of and Path(of).resolve() == root else None
