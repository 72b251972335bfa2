"""Calling one function on many items, on all cores of this machine or, with $SFT_RAY, on those of a cluster.

What is called writes files under temporary names and renames them, so that a call that is made twice does no
harm. Which engine makes the calls decides no result.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol, TypeVar

import psutil
import pyarrow as pa

from sft.core.errors import UserError

MEMORY = 1 << 30  # bytes that a process may take

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Protocol):
    """What makes the calls."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield what the function returns for each item, in their order.

        Function, items and results are picklable. What the function raises comes out as it is; raises
        UserError where a process that works is killed.
        """
        ...


def engine() -> Workers:
    """Return the cluster's workers where $SFT_RAY has an address, else this machine's."""
    if address := os.environ.get("SFT_RAY"):
        from sft.core.ray_workers import RayWorkers

        return RayWorkers(address)
    return LocalWorkers()


class LocalWorkers:
    """Forked processes, one a core; where there is one item or one core, this process itself."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Call the function on each item."""
        processes = min(cores(), len(items))
        if processes <= 1:
            yield from map(function, items)
            return
        # Forked processes have the function, with all that it is bound to, already.
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(processes, context, _begin, (function,))
        try:
            yield from pool.map(_call, items)  # type: ignore[arg-type]
        except BrokenProcessPool as error:
            raise UserError(
                "a process that works on the rows was killed, most likely because the machine ran out of "
                "memory. Close other programs, then run again."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Return how many processes work at once: one a core, as far as there is memory for them.

    One where processes cannot be forked.
    """
    if sys.platform != "linux":
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), _free_memory() // MEMORY))


def _free_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that are free, on this machine and within the container's limit.

    As on a machine, what a container has of files in its page cache counts as free: the kernel takes that
    back when it is needed, and right after a download it is all that there is.
    """
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((group / "memory.max").read_text())  # "max" where there is none
        used = int((group / "memory.current").read_text())
        fields = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = sum(int(size) for name, size in fields if name in ("active_file", "inactive_file"))
    except (OSError, ValueError):
        return free
    return min(free, limit - used + cached)


_function: Callable  # in a process that works for another


def _begin(function: Callable) -> None:
    global _function
    _function = function
    pa.set_cpu_count(1)
    end_with_parent()


def end_with_parent() -> None:
    """Have this process, which `multiprocessing` has started, end when its parent is gone.

    A parent that is killed cannot end it.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(item: Item) -> Result:  # type: ignore[type-var]
    return _function(item)
