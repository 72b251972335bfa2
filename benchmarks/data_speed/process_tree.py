"""Running a program and measuring its whole process tree: time, memory, bytes written. Linux only."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL = 0.1  # seconds between two looks at the memory
# To tell what is shared, the kernel walks every page: that takes no more than this share of a core.
MOST_OF_A_CORE = 0.02
BLOCK = 512  # bytes, of getrusage's ru_oublock


class ProgramError(Exception):
    """A program failed; the message holds the end of what it printed."""


@dataclass(frozen=True)
class Usage:
    """What a program and all that it starts took.

    `memory` is the peak of the tree's proportional set size in bytes: what processes share counts once, and
    pages of files that they map count too. `largest_process` is the peak of one process without such pages.
    `written` is the bytes written to files, scratch files included.
    """

    seconds: float
    cpu_seconds: float
    memory: int
    largest_process: int
    written: int


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> Usage:
    """Run `python COMMAND` in `folder` and measure it, Python's start included; raises ProgramError.

    What the program prints goes to log.txt there. What waits to be written to disk is written beforehand, so
    that no program pays for the one before it.
    """
    log = folder / "log.txt"
    os.sync()
    with log.open("wb") as file:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        memory = Memory(process.pid)
        memory.start()
        try:
            # Not process.wait(): the kernel's own account also has the children that the program waited for.
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    memory.ended.set()
    memory.join()
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise ProgramError(f"{' '.join(command)} failed with status {process.returncode}:\n{said}")
    return Usage(
        round(seconds, 3),
        round(used.ru_utime + used.ru_stime, 3),
        memory.peak,
        memory.largest_process,
        used.ru_oublock * BLOCK,
    )


class Memory(threading.Thread):
    """Looks at a process and its descendants until `ended` is set; the peaks may be set to 0 meanwhile."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.ended = threading.Event()
        self.peak = 0
        self.largest_process = 0

    def run(self) -> None:
        """Look until `ended` is set."""
        next_sum = 0.0
        while not self.ended.wait(INTERVAL):
            with suppress(psutil.NoSuchProcess):
                tree = [self.root, *self.root.children(recursive=True)]
                self.largest_process = max(self.largest_process, *map(_anonymous, tree))
                if time.monotonic() >= next_sum:
                    begun = time.thread_time()
                    found = sum(map(_proportional, tree))
                    self.peak = max(self.peak, found)
                    next_sum = time.monotonic() + (time.thread_time() - begun) / MOST_OF_A_CORE


def _anonymous(process: psutil.Process) -> int:
    """Return the bytes of memory that are no file's; 0 for a process that has ended."""
    with suppress(psutil.NoSuchProcess):
        memory = process.memory_info()
        return int(memory.rss - memory.shared)
    return 0


def _proportional(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # denied: it is about to end
        return int(process.memory_full_info().pss)
    return 0
