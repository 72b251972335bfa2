"""One call on a node of a Ray cluster: what runs there, and what comes back of it.

Nothing imports this module, and with it Ray, but where a cluster is asked for.
"""

import math
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft.core.errors import MissingFile, UserError

# Read when Ray is imported. Without the first it tells its makers that it is used.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault(
    "RAY_gcs_server_request_timeout_seconds", "20"
)  # 60, for a node's process on this machine
try:
    import ray
    from ray import cloudpickle  # of functions of a script too, which pickle would seek in Ray's own __main__
except ImportError as error:
    raise UserError(
        f"SFT_RAY is set, but: {error}. Install Ray on every node of the cluster: "
        "make install-ray, or pip install -r requirements-ray.txt -c constraints.txt"
    ) from error

SHARED = (
    "All nodes of the cluster must see what this machine sees, at the same paths, on a shared file system: "
    "this folder, and that of downloads (SFT_CACHE)."
)
POLL = 0.5  # seconds between two looks at whether somebody still waits
_CODE = Path(__file__).resolve().parents[2]
_UNSEEN, _RAISED, _RETURNED = "unseen", "raised", "returned"


def packed(value: Any) -> bytes:
    """Return a function or an item as `task` takes it.

    As bytes, as forked processes get it, because Ray would unpack it before our modules can be imported, and
    hand out arrays that cannot be written to.
    """
    return cloudpickle.dumps(value)


def task(folder: Path) -> Callable[[list[Any], bytes], tuple[str, Any]]:
    """Return what a node is to run for a call in `folder`.

    It takes a list of Ray's reference to the packed function, and the packed item.
    """
    where, paths = str(folder), list(dict.fromkeys([str(folder), str(_CODE)]))
    variables = {k: v for k, v in os.environ.items() if k.startswith("SFT_") and k != "SFT_RAY"}
    unseen = _UNSEEN

    # A function inside one, for such are sent as code: a node can import ours only once it has run.
    def run(function: list[Any], item: bytes) -> tuple[str, Any]:
        try:
            os.chdir(where)
        except OSError as error:
            return unseen, f"{socket.gethostname()} cannot enter {where}: {error.strerror}."
        os.environ.update(variables)
        sys.path[:0] = [path for path in paths if path not in sys.path]
        from sft.core import ray_call

        return ray_call.made(function[0], item)

    return run


def made(function: Any, item: bytes) -> tuple[str, Any]:
    """Make a call, on a node; return its outcome for `outcome` to unpack."""
    try:
        return _RETURNED, cloudpickle.dumps(_unpacked(function)(cloudpickle.loads(item)))
    except Exception as error:
        return _RAISED, _packed_error(error)


@lru_cache(maxsize=1)
def _unpacked(function: Any) -> Callable:
    """Unpack a function once for all of a process's calls of it."""
    pa.set_cpu_count(1)  # a call has one core
    return cloudpickle.loads(ray.get(function))


def _packed_error(error: Exception) -> bytes:
    node, trace = socket.gethostname(), traceback.format_exc()
    try:
        data = cloudpickle.dumps((error, node, trace))
        cloudpickle.loads(data)
    except Exception:  # it cannot be sent
        return cloudpickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), node, trace))
    return data


def outcome(call: Any) -> Any:
    """Return what a call that has ended returned, or raise what it raised.

    Raises UserError where the node lacks a file or folder that this machine has.
    """
    kind, value = ray.get(call)
    if kind == _RETURNED:
        return cloudpickle.loads(value)
    if kind == _UNSEEN:
        raise UserError(f"SFT_RAY: {value} {SHARED}")
    error, node, trace = cloudpickle.loads(value)
    if path := _only_here(error):
        raise UserError(f"SFT_RAY: {node} does not see {path}, which this machine does. {SHARED}")
    if not isinstance(error, UserError):
        error.add_note(f"on {node}:\n{trace}")
    raise error


def waited(calls: list[Any], seconds: float = math.inf) -> set[Any]:
    """Wait until all calls have ended, or for so long; return those that have.

    In a thread, because in the main thread Ray makes a bare KeyboardInterrupt of all that the handler of a
    signal raises.
    """
    ended: Future[set[Any]] = Future()
    left = threading.Event()

    def wait() -> None:
        until = time.monotonic() + seconds
        try:
            while True:
                found, others = ray.wait(calls, num_returns=len(calls), timeout=POLL)
                if not others or left.is_set() or time.monotonic() > until:
                    return ended.set_result(set(found))
        except BaseException as error:
            ended.set_exception(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        return ended.result()
    finally:
        left.set()
        thread.join()  # that it is in no call of Ray's where Ray is left


def _only_here(error: Exception) -> Path | None:
    """Return the file that a node has not found and this machine has."""
    if isinstance(error, MissingFile):
        path = error.path
    elif isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
        path = Path(error.filename)
    else:
        return None
    return path if path.exists() else None
