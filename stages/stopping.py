"""How a stage ends before its time: by Ctrl-C, SIGTERM or SIGHUP, and where the DVC that runs it is gone.

DVC neither handles SIGTERM nor passes it on, and killed it leaves its stage running: a rerun would then train
beside it. So a stage watches the DVC that has started it, and ends when that is gone.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

from stages import starter

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 5.0  # seconds that ending may take, where it waits for other threads, such as downloads
INTERVAL = 1.0  # seconds between two looks at whether DVC is there


class Stopped(KeyboardInterrupt):
    """A stage is to end, and says `str(self)`; not an Exception, so that nobody takes it for a fault."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.status = 128 + number  # as a shell has it


class Request:
    """Whether a stage has been asked to end, and by what: the first that asked counts."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.number = 0
        self.why = ""
        self.waits = False  # whether the stage ends at a moment of its own choice
        self._process = os.getpid()
        self._timer: threading.Timer | None = None
        self._said = False
        self._say_to = say

    def __call__(self) -> bool:
        """Tell whether the stage has been asked to end."""
        return bool(self.number)

    def stopped(self, where: str = "") -> Stopped:
        """Return what is to be raised; `where` says how far the stage has come.

        A rank that was not asked itself ends with the one that was.
        """
        return Stopped(self.number or signal.SIGTERM, f"{self.why or 'stopped with another rank'}{where}")

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: end at once, but in `deferred`, where the second signal does that."""
        if os.getpid() != self._process:  # one of the processes forked by the stage, which ends them itself
            return
        first = not self.number
        if first:
            self.number, self.why = number, self.why or stopped_by(number)
            _write_to_nowhere_if_nobody_reads()
        if first and self.waits:
            if sys.stderr.isatty() and not self._say_to:
                _write("\nfinishing the step under way; a second signal ends it at once")
        elif self._say_to and self.waits:
            pass  # from Slurm and systemd, and once more from the launcher, which itself ends ranks at once
        elif not self._timer:
            self._timer = threading.Timer(GRACE, self._give_up)
            self._timer.daemon = True
            self._timer.start()
            raise self.stopped()

    def end(self, stopped: Stopped) -> NoReturn:
        """Write the one line that the stage ends with, and end the process.

        At once: with PyTorch loaded, Python takes seconds to clean up, and waits for threads that download.
        """
        self._say(str(stopped))
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(stopped.status)

    def over(self) -> None:
        """Let the process live: the stage has come to its end."""
        if self._timer:
            self._timer.cancel()

    def _give_up(self) -> None:
        """End the process although its main thread does not: it may wait for other threads."""
        self._say(self.why)
        os._exit(128 + self.number)

    def _say(self, line: str) -> None:
        if not self._said:
            self._said = True
            (self._say_to or _write)(line)


_request = Request()


# What a process that the stage forks ends by, as any other does. Not by a handler in Python: it may be called
# too late, when a wait has begun for a lock that nobody releases. multiprocessing's Pool then waits for ever.
_ENDING = {signal.SIGTERM, signal.SIGHUP}
_masks = threading.local()  # of the thread that forks


def _before_fork() -> None:
    """Hold these signals back until the new process has its handling of them."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_a_fork() -> None:
    for number in _ENDING:
        if signal.getsignal(number) == _request.receive:
            signal.signal(number, signal.SIG_DFL)
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_a_fork)


@contextmanager
def handled(launcher: int | None = None, say: Callable[[str], None] | None = None) -> Iterator[Request]:
    """Turn the signals into Stopped inside, and DVC's end too; a signal that is ignored stays ignored.

    A rank looks at its `launcher` instead, a process's number, which looks at DVC; `say` has its last word.
    """
    global _request
    outer, _request = _request, Request(say)
    try:
        with _receiving(_request, launcher):
            yield _request
    finally:
        _request = outer  # what has stopped this stage stops none that the process runs later


@contextmanager
def _receiving(request: Request, launcher: int | None) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, request.receive)
    over = threading.Event()
    if launcher:
        above = psutil.Process(launcher) if os.getppid() == launcher else None
        threading.Thread(target=_watch, args=(request, over, above), daemon=True).start()
    elif stage := os.environ.get("DVC_STAGE"):  # which DVC sets
        dvc = starter.starter(stage)
        if dvc or starter.orphaned(stage):
            threading.Thread(target=_watch, args=(request, over, dvc), daemon=True).start()
    try:
        yield
        request.over()
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[Request]:
    """Have the first signal wait inside until the stage, which asks the request, ends by itself.

    Raises Stopped at the end where it did not.
    """
    request = _request
    request.waits = True
    try:
        yield request
    finally:
        request.waits = False
    if request():
        raise request.stopped()


def _watch(request: Request, over: threading.Event, dvc: psutil.Process | None) -> None:
    """Ask the stage to end when the DVC that runs it is gone, as it is where it is None."""
    gone = False
    while not gone:
        if over.wait(INTERVAL):  # first: what is raised is caught once the stage has begun
            return
        gone = dvc is None or not starter.lives(dvc)
    if not request():
        request.why = "stopped because DVC has ended (after a killed `dvc exp run`: make rescue)"
        # To the main thread, which it wakes from waiting.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def stopped_by(number: int) -> str:
    """Say what signal has stopped a stage."""
    return f"stopped by {_name(number)}"


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _write(line: str) -> None:
    """Write a line past Python's buffers, which a signal may have come in the middle of."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def _write_to_nowhere_if_nobody_reads() -> None:
    """Keep what is printed from failing where the terminal, or who read it, has gone."""
    streams = select.poll()
    for stream in (1, 2):
        streams.register(stream, 0)
    for stream, event in streams.poll(0):
        if event & (select.POLLHUP | select.POLLERR):
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream)
