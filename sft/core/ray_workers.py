"""Calling one function on many items on a Ray cluster, all of whose nodes see the folder that we work in.

By Ray's tasks and not Ray Data: the functions read and write shards themselves and return little. Ray Data
would move the rows through its object store, in blocks and an order of its own, and DVC hashes the bytes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sft.core import ray_cluster
from sft.core.errors import UserError
from sft.core.ray_call import outcome, packed, ray, task, waited

Item = TypeVar("Item")
Result = TypeVar("Result")

MEMORY = 1 << 30  # bytes a call may take (0.7 GiB was seen): a node gets no more calls than it has room for
RETRIES = 5  # of a call whose process or node is lost
PENDING = 4  # calls given to Ray for each that can run: no core waits for the next one, no million is queued


class RayWorkers:
    """Processes of the cluster, of one core each."""

    def __init__(self, address: str) -> None:
        """Connect to the cluster; raises UserError where none answers or a node of it cannot do the work."""
        self._address = address
        ray_cluster.connect(address)
        self._at_once = ray_cluster.capacity(address, MEMORY)
        folder = Path.cwd()
        ray_cluster.check_nodes(folder)
        # Spread, because Ray would fill this node first, and a call reads and writes as much as it computes.
        self._task = ray.remote(num_cpus=1, memory=MEMORY, max_retries=RETRIES, scheduling_strategy="SPREAD")(
            task(folder)
        )

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield what the function returns for each item, in their order.

        What the function raises comes out as it is; raises UserError where a call is lost again and again.
        Where the iterator is left before its end, calls under way are ended.
        """
        ray_cluster.connect(self._address)
        shared = [ray.put(packed(function))]  # sent to each node once, whatever it is bound to
        rest = iter(items)
        pending: deque[Any] = deque()
        try:
            while True:
                while len(pending) < PENDING * self._at_once and (item := next(rest, _END)) is not _END:
                    pending.append(self._task.remote(shared, packed(item)))
                if not pending:
                    return
                waited([pending[0]])
                yield _outcome(pending.popleft())
        finally:
            if pending:
                # Ray ends all processes of one that leaves. By ray.cancel, of a call that ends just then, it
                # ends this one (2.60: "Check failed" in TaskManager::CompletePendingTask).
                ray.shutdown()


_END: Any = object()


def _outcome(call: Any) -> Any:
    try:
        return outcome(call)
    except ray.exceptions.RayTaskError:  # what went wrong before our function was called
        raise
    except (ray.exceptions.RayError, ConnectionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"SFT_RAY: the cluster has lost a call {RETRIES + 1} times, or is gone: {reason} See in Ray's "
            f"logs whether nodes run out of memory (a call takes up to {MEMORY >> 20} MB), then run again."
        ) from error
