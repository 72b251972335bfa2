"""Starting a stage's ranks, one process a device, and ending them all where one ends.

They get the variables that torchrun sets (RANK, WORLD_SIZE, ...). torchrun itself is not used: it ends a
process 30 seconds after a signal, in the midst of a step; killed, it leaves its processes running; and it
tells of an error at the end of some sixty lines of its own.

On several hosts the same command runs on each, with three variables: SFT_HOSTS, how many there are, SFT_HOST,
the number of this one, and SFT_RENDEZVOUS, an address and port of host 0. None of them decides a result. The
first rank, on host 0, writes the outputs: that is where DVC runs the stage.
"""

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sft.core.errors import ParamError, UserError
from stages import stopping

if TYPE_CHECKING:
    from torch.distributed import TCPStore

LOST = 75  # a rank's status where it ends because another one has
GRACE = 20.0  # seconds that the other ranks have to end by themselves
ERROR = "error: "  # what stages/cli.py writes before what the user can mend
REPORT, LAUNCHER = "SFT_RANK_REPORT", "SFT_LAUNCHER"


@dataclass(frozen=True)
class Hosts:
    """How many hosts there are, which of them this one is, and where they meet."""

    count: int = 1
    number: int = 0
    address: str = "127.0.0.1"
    port: int = 0  # any that is free


@dataclass(frozen=True)
class Rank:
    """A process that we have started, and the file in which it says why it ends."""

    number: int
    process: subprocess.Popen[bytes]
    report: Path

    @classmethod
    def start(cls, number: int, env: dict[str, str], folder: Path, command: tuple[str, ...]) -> "Rank":
        """Start it in a session of its own: so Ctrl-C in a terminal comes to this process alone."""
        report = folder / str(number)
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=env | {REPORT: str(report)}, start_new_session=True
        )
        return cls(number, process, report)

    @property
    def said(self) -> str:
        """Return why it has ended, in its own words, empty where it could not say."""
        return self.report.read_text(encoding="utf-8") if self.report.exists() else ""


def launch(count: int, name: str, command: tuple[str, ...], prepare: Callable[[], None]) -> None:
    """Check that there are `count` devices, `prepare`, start this host's part of the ranks, and wait.

    Raises UserError where one fails, and Stopped where they have been stopped.
    """
    hosts = hosts_of_environment()
    here = count // hosts.count
    _check(count, here, hosts, name)
    prepare()
    store = _store(hosts) if hosts.number == 0 else None
    port = store.port if store else hosts.port
    with tempfile.TemporaryDirectory() as folder, stopping.deferred() as request:
        started: list[Rank] = []
        try:
            for local in range(here):
                env = _environment(local, here, count, hosts, port)
                started.append(Rank.start(hosts.number * here + local, env, Path(folder), command))
            failed = _wait(started, request)
        finally:  # a second signal comes here at once
            _signal(started, signal.SIGKILL)
            for rank in started:
                rank.process.wait()
        if request():
            first = started[0]  # has said how far it has come, as it does alone
            where = first.said.removeprefix(stopping.stopped_by(request.number))
            raise request.stopped(where if first.process.returncode == 128 + request.number else "")
        if failed:
            raise _failure(failed, count)


def _check(count: int, here: int, hosts: Hosts, name: str) -> None:
    """Raise ParamError where this host has not the devices that it is to have."""
    import torch

    if count % hosts.count:
        raise ParamError(
            f"{name}: {count} devices are not as many on each of {hosts.count} hosts (SFT_HOSTS). "
            f"Use a multiple of {hosts.count}."
        )
    gpus = torch.cuda.device_count()
    there = gpus or _cores()
    if here > there:
        kind = "GPU" if gpus else "processor core"
        on_host = f", {here} of them on this host" if hosts.count > 1 else ""
        counted = f"is 1 {kind}" if there == 1 else f"are {there} {kind}s"
        raise ParamError(
            f"{name}: {count} devices are asked for{on_host}, and there {counted} here. "
            f"Use {there * hosts.count} at most."
        )


def _store(hosts: Hosts) -> "TCPStore":
    """Listen for the ranks, which find each other by it; a port of ours cannot be taken meanwhile."""
    from torch.distributed import TCPStore

    try:
        return TCPStore(hosts.address, hosts.port, is_master=True, wait_for_workers=False)
    except RuntimeError as error:
        raise UserError(
            f"SFT_RENDEZVOUS: nobody can listen on {hosts.address}:{hosts.port} here: "
            f"{str(error).partition('. ')[0]}. Name an address of host 0 and a port that is free there."
        ) from error


def _environment(local: int, here: int, count: int, hosts: Hosts, port: int) -> dict[str, str]:
    """Return the environment of this host's rank `local`, one of `here`."""
    return {
        "OMP_NUM_THREADS": str(max(1, _cores() // here)),  # more threads than cores wait for each other
        **({"GLOO_SOCKET_IFNAME": "lo"} if hosts.count == 1 and sys.platform == "linux" else {}),
        **os.environ,
        "RANK": str(hosts.number * here + local),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(local),
        "MASTER_ADDR": hosts.address,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # torchrun's word for: somebody else is listening there
        LAUNCHER: str(os.getpid()),
    }


def _wait(started: list[Rank], request: stopping.Request) -> list[Rank]:
    """Wait until all have ended; pass a signal on to them, and end all where one has failed.

    Return those that were the first to fail.
    """
    passed_on, first, until = False, list[Rank](), math.inf
    while any(rank.process.poll() is None for rank in started) and time.monotonic() < until:
        time.sleep(0.1)
        if request() and not passed_on:
            passed_on = True
            _signal(started, request.number)
        failed = [rank for rank in started if rank.process.poll()]
        if failed and not first:
            first, until = failed, time.monotonic() + GRACE
            if not passed_on:
                _signal(started, signal.SIGTERM)
    return first or [rank for rank in started if rank.process.poll()]


def _signal(started: list[Rank], number: int) -> None:
    for rank in started:
        if rank.process.poll() is None:
            rank.process.send_signal(number)


def _failure(failed: list[Rank], count: int) -> UserError:
    """Return what to say of the first ranks that failed; a traceback is printed, so that it comes first."""
    rank = min(failed, key=lambda rank: (rank.process.returncode == LOST, rank.number))
    who, status, said = f"rank {rank.number} of {count}", rank.process.returncode, rank.said
    if said.startswith(ERROR):
        return UserError(said.removeprefix(ERROR))
    again = "The others were stopped. The same command again goes on from what is kept."
    if status < 0:
        memory = " (Linux does that where memory runs out)" if status == -signal.SIGKILL else ""
        return UserError(f"{who} was ended by {signal.Signals(-status).name}{memory}. {again}")
    if status == LOST:
        return UserError(f"{who} has lost the others ({said}); the host of one of these says why. {again}")
    if status > 128:
        return UserError(f"{who} was {said}. {again}")
    print(said, end="", file=sys.stderr, flush=True)
    why = "as is said above" if said else f"with status {status}"
    return UserError(f"{who} has failed, {why}. {again}")


def hosts_of_environment() -> Hosts:
    """Read the hosts from the environment; raise UserError for what does not say them."""
    names = ("SFT_HOSTS", "SFT_HOST", "SFT_RENDEZVOUS")
    values = [os.environ.get(name) for name in names]
    if values[0] in (None, "1"):
        return Hosts()
    try:
        count, number = int(values[0] or ""), int(values[1] or "")
        address, _, port = (values[2] or "").rpartition(":")
        if not (0 <= number < count and address and 0 < int(port) < 2**16):
            raise ValueError
    except ValueError:
        said = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True) if value)
        raise UserError(
            f"{said}: on several hosts SFT_HOSTS is how many there are, SFT_HOST the number of this one, "
            "from 0 on, and SFT_RENDEZVOUS an address of host 0 with a free port, such as 10.0.0.1:29500."
        ) from None
    return Hosts(count, number, address, int(port))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
