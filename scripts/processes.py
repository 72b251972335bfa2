"""What runs in a repository now: DVC, and the stages that it, or somebody by hand, has started."""

import os
from pathlib import Path

import psutil

from sft.core.errors import UserError

CACHE = "SFT_CACHE"  # where the download cache is: sft/fetch/cache.py
# The modules whose programs write outputs, or read what is in the caches.
PROGRAMS = ("stages.", "app.chat", "app.recipe", "scripts.study", "scripts.harness")


def running(folder: Path | None = None) -> dict[int, str]:
    """Return the commands that run in a folder or below it, by process id.

    Without a folder, those that run anywhere with our download cache. Other users' cannot be seen.
    """
    found = {}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if folder:
                here = Path(process.cwd()).is_relative_to(folder)
            else:
                here = _is_ours(command) and process.environ().get(CACHE) == os.environ.get(CACHE)
        except (psutil.Error, OSError):  # another user's, or it has just ended
            continue
        if here and _is_ours(command):
            found[process.pid] = " ".join(command)
    return found


def check_none_runs(folder: Path | None, why: str) -> None:
    """Raise UserError where something runs in the folder, or anywhere without one; `why` it must not."""
    found = running(folder)
    if found:
        pid, command = next(iter(found.items()))
        raise UserError(f"process {pid} is running ({command[:100]}), {why}. Wait for it to end, or stop it.")


def _is_ours(command: list[str]) -> bool:
    """Tell whether a command line is DVC's or one of our programs'; a shell that names them is neither."""
    names = [Path(part).name for part in command[:2]]  # a script is run as `python /path/to/dvc`
    module = command[command.index("-m") + 1] if "-m" in command[:-1] else ""
    return "dvc" in (*names, module) or module.startswith(PROGRAMS)
