"""What runs in a repository now: DVC's commands, programs of ours, and stages whose DVC is gone.

DVC releases its own lock while a stage's command runs, so that lock does not tell. Other users' processes
cannot be seen.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.experiment_state import EXPS, RWLOCKS
from sft.core.errors import UserError

CACHE = "SFT_CACHE"  # where the download cache is: sft/fetch/cache.py
# The modules whose programs write outputs, or read what is in the caches.
STAGES = "stages."
PROGRAMS = (STAGES, "app.chat", "app.recipe", "scripts.study", "scripts.harness")
IN_COPY = "scripts.experiment_in_copy"
SHELLS = {"sh", "dash", "bash", "zsh", "ksh", "fish"}
# How long a stage may take to save where it is, once it was told to stop.
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Command:
    """A process: its number, its command line, and whether it works for the queue."""

    pid: int
    line: str
    queue: bool = False


def dvc_commands(root: Path) -> list[Command]:
    """Return the DVC commands that are running in the repository `root`, or in a temporary copy below it.

    Also a program that uses DVC as a library, while it runs a stage: DVC notes it then.
    """
    own = _own()
    found = {}
    for process, words, folder in _processes():
        if process.pid not in own and is_dvc(words) and folder.is_relative_to(root):
            queue = "queue-worker" in words or "exec-run" in words or {"queue", "start"} <= set(words)
            found[process.pid] = Command(process.pid, " ".join(words[1:]), queue)
    others = {pid: Command(pid, line) for pid, line in _noted(root).items() if pid not in own}
    return list((others | found).values())


def check_no_dvc(root: Path) -> list[Command]:
    """Raise UserError where DVC is running in the repository; return the commands of its queue.

    These work in temporary copies and leave the workspace alone.
    """
    commands = dvc_commands(root)
    if busy := [command for command in commands if not command.queue]:
        running = "; ".join(f"process {command.pid}: {command.line}" for command in busy)
        raise UserError(f"DVC is running here, so nothing was touched. Wait for it, or stop it. {running}")
    return commands


def check_workspace_is_free(root: Path) -> None:
    """Raise UserError where DVC or a stage may be writing outputs in the workspace of the repository."""
    check_no_dvc(root)
    for command in _programs(root, (STAGES,)):
        raise UserError(
            f"A stage is running here, so nothing was touched. Wait for it, or stop it (make rescue, where "
            f"its DVC is gone). process {command.pid}: {command.line}"
        )


def check_none_runs(folder: Path | None, why: str) -> None:
    """Raise UserError where DVC or a program of ours runs in the folder, or below it; `why` it must not.

    Without a folder: anywhere, with our download cache.
    """
    found = [*dvc_commands(folder), *_programs(folder, PROGRAMS, copies=True)] if folder else _of_our_cache()
    for command in found:
        raise UserError(
            f"process {command.pid} is running ({command.line[:100]}), {why}. Wait for it to end, or stop it."
        )


def stop_orphans(root: Path) -> list[str]:
    """Stop the stages that outlived the DVC that started them; say which.

    Their results would be lost: DVC runs a stage anew that it did not see end. They are sent SIGTERM, so
    that a stage may save where it is. Raises UserError where one does not stop.
    """
    noted = _noted(root)
    orphans = {
        process: stage
        for process, words, _ in _processes()
        if (stage := _stage_of(process, root)) and not is_dvc(words)
        if not any(parent.pid in noted or _runs_dvc(parent) for parent in _parents(process))
    }
    # The shell that DVC runs a stage by passes no signal on, and ends after it; processes that a stage has
    # started end with it.
    ours = {one: stage for one, stage in orphans.items() if not _is_shell(one)}
    stages = {one: stage for one, stage in ours.items() if ours.keys().isdisjoint(_parents(one))}
    for process in stages:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(orphans, timeout=PATIENCE)
    if alive:
        numbers = ", ".join(f"{one.pid} ({orphans[one]})" for one in alive)
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


def is_dvc(words: list[str]) -> bool:
    """Tell whether a command line is DVC's: `dvc ...`, `python .../dvc ...` or `python -m dvc ...`.

    Also our own script that calls DVC's command in its own process.
    """
    return any(Path(word).name == "dvc" for word in words[:2]) or _module(words) in ("dvc", IN_COPY)


def _module(words: list[str]) -> str:
    """Return the module that a command line runs; a shell that names one runs none."""
    return words[words.index("-m") + 1] if "-m" in words[:-1] else ""


def _programs(root: Path, modules: tuple[str, ...], copies: bool = False) -> list[Command]:
    """Return the programs of these modules that run in a repository; its temporary copies on request."""
    return [
        Command(process.pid, " ".join(words[1:]))
        for process, words, folder in _processes()
        if _module(words).startswith(modules) and process.pid not in _own()
        if folder.is_relative_to(root) and (copies or not folder.is_relative_to(root / EXPS))
    ]


def _of_our_cache() -> list[Command]:
    """Return the commands that use the same download cache as we."""
    found = []
    for process, words, _ in _processes():
        with suppress(psutil.Error, OSError):
            ours = is_dvc(words) or _module(words).startswith(PROGRAMS)
            if ours and process.environ().get(CACHE) == os.environ.get(CACHE) and process.pid not in _own():
                found.append(Command(process.pid, " ".join(words[1:])))
    return found


def _own() -> set[int]:
    return {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}


def _processes() -> Iterator[tuple[psutil.Process, list[str], Path]]:
    """Yield this user's processes with command line and folder, as far as these can be read."""
    for process in psutil.process_iter():
        try:
            words, folder = process.cmdline(), Path(process.cwd())
            living = words and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            continue
        if living:
            yield process, words, folder


def _noted(root: Path) -> dict[int, str]:
    """Return the living processes that DVC has noted as those that read or write a stage's files.

    A process that began after the note has the number of a dead one.
    """
    found = {}
    for path in (root / lock for lock in RWLOCKS):
        with suppress(OSError, ValueError, AttributeError, KeyError, TypeError):  # half-written
            noted, when = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
            readers = [one for several in noted.get("read", {}).values() for one in several]
            for one in [*noted.get("write", {}).values(), *readers]:
                with suppress(psutil.Error):
                    process = psutil.Process(int(one["pid"]))
                    if process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= when + 1:
                        found[process.pid] = str(one["cmd"])
    return found


def _runs_dvc(process: psutil.Process) -> bool:
    try:
        return is_dvc(process.cmdline())
    except psutil.Error:
        return False


def _is_shell(process: psutil.Process) -> bool:
    """Tell whether a process is a shell, such as DVC runs a stage by ($SHELL, or else /bin/sh)."""
    try:
        return process.name() in SHELLS
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
