"""Connecting to a Ray cluster, and checking that its nodes can do the work."""

import importlib.metadata
import logging
import os
import re
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import grpc
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sft.core.errors import UserError
from sft.core.ray_call import SHARED, outcome, packed, ray, task, waited

ANSWER = 10.0  # seconds for an address to answer; Ray itself tries for minutes
LOOK = 60.0  # seconds for a node to start a process that imports our packages and looks at the folder
PACKAGES = ("numpy", "py3langid", "pyarrow", "rensa", "xxhash")  # which the bytes of a shard depend on
_ADDRESS = re.compile(r"auto|(ray://)?(?P<place>([^\s/:@\[\]]+|\[[0-9a-fA-F:.]+\]):\d{1,5})")

Node = dict[str, Any]  # as Ray describes it


def connect(address: str) -> None:
    """Connect this process to the cluster at `address`, where it is not connected to one yet.

    The address is HOST:PORT of a cluster that this machine is a node of, `auto` for the one that it is, and
    ray://HOST:PORT from a machine that is none. Raises UserError where that is no address, or nobody answers.
    """
    if ray.is_initialized():
        return
    if not (match := _ADDRESS.fullmatch(address)):
        raise UserError(
            f"SFT_RAY: {address!r} is no address of a Ray cluster. On a node of the cluster it is "
            "HOST:6379 or auto, elsewhere ray://HOST:10001."
        )
    if match["place"]:
        _check_answer(address, match["place"])
    main = threading.current_thread() is threading.main_thread()
    ours = signal.getsignal(signal.SIGTERM)
    stopped = False
    try:
        # Ray's log_to_driver would mix what all processes print into what the stage prints.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except SystemExit:  # from the handler of SIGTERM that Ray puts in place of ours
        stopped = True
    except Exception as error:
        raise UserError(
            f"SFT_RAY: no Ray cluster can be reached at {address}: {_first_line(error)} HOST:6379 and "
            "auto are for a node of the cluster (ray start --address HOST:6379), ray://HOST:10001 for others."
        ) from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, ours)
    if stopped:
        signal.raise_signal(signal.SIGTERM)


def _check_answer(address: str, place: str) -> None:
    """Raise UserError where nothing that speaks gRPC, as Ray does, answers."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":  # with certificates that Ray knows of
        return
    with grpc.insecure_channel(place) as channel:
        try:
            grpc.channel_ready_future(channel).result(ANSWER)
        except grpc.FutureTimeoutError:
            raise UserError(
                f"SFT_RAY: no Ray cluster answers at {address} (waited {ANSWER:.0f} s). Start one "
                "(ray start --head), correct the address, or unset SFT_RAY to use this machine alone."
            ) from None


def capacity(address: str, memory: int) -> int:
    """Return how many calls of one core and `memory` bytes run at once; raises UserError where it is none."""
    nodes = [node["Resources"] for node in nodes_alive()]
    calls = sum(int(min(node.get("CPU", 0), node.get("memory", 0) // memory)) for node in nodes)
    if not calls:
        raise UserError(
            f"SFT_RAY: none of the {len(nodes)} nodes of the Ray cluster at {address} has a core and "
            f"{memory >> 20} MB of memory for a call. See ray start's --num-cpus and --memory."
        )
    return calls


def nodes_alive() -> list[Node]:
    """Return Ray's record of each node that is there."""
    return [node for node in ray.nodes() if node["Alive"]]


def check_nodes(folder: Path) -> None:
    """Have every node look for a file in `folder`, and at the versions of its packages.

    Raises UserError that names the nodes where something is wrong.
    """
    nodes = {node["NodeID"]: node for node in nodes_alive()}
    function = ray.put(packed(look))
    # A name that *.partial in .gitignore covers, where this process is killed.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".shared-", suffix=".partial") as file:
        item = packed((Path(file.name).name, versions()))
        calls = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            # Of no core: it need not wait where others use all of them.
            started = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(task(folder))
            calls[node] = started.remote([function], item)
        ended = waited(list(calls.values()), LOOK)
    faults = {}
    for node, call in calls.items():
        if call not in ended:
            faults[node] = f"has not answered within {LOOK:.0f} s."
            continue
        try:
            faults[node] = outcome(call)
        except (ray.exceptions.RayError, UserError, ImportError) as error:
            faults[node] = f"cannot run our code: {_first_line(getattr(error, 'cause', None) or error)}"
    alive = {node["NodeID"] for node in nodes_alive()}
    said = [f"{_name(nodes[node])} {fault}" for node, fault in faults.items() if fault and node in alive]
    if said:
        more = f" and {len(said) - 3} more." if len(said) > 3 else ""
        raise UserError(f"SFT_RAY: {' '.join(said[:3])}{more} {SHARED}")


def versions() -> dict[str, str]:
    """Return the versions of `PACKAGES` here."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def look(wanted: tuple[str, dict[str, str]]) -> str | None:
    """Look, on a node, for a file in the folder and at the packages' versions; return what is wrong."""
    file, others = wanted
    if not Path(file).exists():
        return f"does not see what is in {Path.cwd()}."
    different = [f"{name} {version}" for name, version in versions().items() if version != others[name]]
    if different:
        return (
            f"has {', '.join(different)}, other versions than this machine: install with -c constraints.txt."
        )
    return None


def _name(node: Node) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if line.endswith(".") else f"{line}."
