"""A command with all that it starts, what it prints and when, and signals to a part of its processes."""

import bisect
import codecs
import contextlib
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# Set in the environment of all that is started in one repository: found again by it, however it was detached.
MARK = "SFT_CHAOS_MARK"
NOBODY = "nobody"  # whom a signal has gone to where nothing ran any more
# How long a queue's worker may do nothing before a task, and after it, in seconds.
BEGIN_SECONDS, COLLECT_SECONDS = 60.0, 5.0
BEGINS = re.compile(r"^Running stage '([^']+)'", re.MULTILINE)


@dataclass(frozen=True)
class Means:
    """A signal, and whom it goes to: dvc (one process of DVC's), stage (its script) or group (everything)."""

    signal: signal.Signals
    whom: str

    def __str__(self) -> str:
        return f"{self.signal.name} to {self.whom}"


MEANS = (
    Means(signal.SIGKILL, "dvc"),
    Means(signal.SIGKILL, "stage"),
    Means(signal.SIGKILL, "group"),
    Means(signal.SIGTERM, "dvc"),
    Means(signal.SIGTERM, "stage"),
    Means(signal.SIGINT, "group"),
)


class Run:
    """A command in a process group of its own; all that it starts carries `mark` in its environment."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str], mark: str):
        self.mark, self.folder = mark, folder
        self.text = ""
        self._ends: list[int] = []  # of the text, at each of the times
        self._times: list[float] = []
        self._lock = threading.Lock()
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**env, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell that runs us in the background has us ignore Ctrl-C, and so would what we start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        threading.Thread(target=self._read_output, daemon=True).start()

    def _add(self, text: str) -> None:
        with self._lock:
            self.text += text
            self._ends.append(len(self.text))
            self._times.append(time.monotonic())

    def _read_output(self) -> None:
        assert self.process.stdout
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while piece := os.read(self.process.stdout.fileno(), 65536):
            self._add(decoder.decode(piece))

    def time_of(self, offset: int) -> float:
        """Return the (monotonic) time at which the character at `offset` of the text was read."""
        with self._lock:
            return self._times[bisect.bisect_right(self._ends, offset)]

    def begun(self) -> dict[str, int]:
        """Return the stages that have begun, in order, with the offset in the text of each."""
        return {found[1]: found.start() for found in BEGINS.finditer(self.text)}

    def of_stage(self, stage: str) -> str:
        """Return the part of the text from a stage's beginning to that of the next."""
        begun = self.begun()
        if stage not in begun:
            return ""
        ends = [offset for offset in begun.values() if offset > begun[stage]]
        return self.text[begun[stage] : min(ends, default=None)]

    @property
    def ended(self) -> bool:
        """Whether the command has ended; what it started may go on."""
        return self.process.poll() is not None

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.process.poll() == 0

    @property
    def experiment(self) -> str | None:
        """The name of the experiment that was made, where it was in a temporary copy."""
        found = re.search(r"^Ran experiment\(s\): (\S+)", self.text, re.MULTILINE)
        return found[1] if found else None

    def send(self, means: Means, rng: random.Random) -> str:
        """Send the signal; return to whom it went: dvc where no stage runs, nobody where nothing does.

        Where DVC has several processes, `rng` chooses one.
        """
        own = marked(self.mark)
        stages, dvc = outermost([p for p in own if stage_of(p)]), [p for p in own if is_dvc(p)]
        if means.whom == "group":
            for group in {os.getpgid(p.pid) for p in own if p.is_running()}:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, means.signal)
            return "group" if own else NOBODY
        if means.whom == "stage" and stages:
            hit, whom = stages[0], "stage"
        elif dvc:
            hit, whom = rng.choice(dvc), "dvc"
        else:
            return NOBODY
        with contextlib.suppress(psutil.NoSuchProcess):
            hit.send_signal(means.signal)
        return whom


class QueueRun(Run):
    """A command that starts a queue's worker: it has ended when the task has, and prints what the task logs.

    A worker may be there from before. The task's process is the one that its worker runs, `dvc exp exec-run`.
    """

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str], mark: str):
        self._old_logs = self._logs(folder)
        self._idle_since: float | None = None
        super().__init__(command, folder, env, mark)
        threading.Thread(target=self._read_logs, daemon=True).start()

    @staticmethod
    def _logs(folder: Path) -> set[Path]:
        return set(folder.glob(".dvc/tmp/exps/run/*/*.out"))

    def _read_logs(self) -> None:
        read: dict[Path, int] = {}
        while True:
            for path in self._logs(self.folder) - self._old_logs:
                with contextlib.suppress(OSError):
                    content = path.read_text(encoding="utf-8", errors="replace")
                    if new := content[read.get(path, 0) :]:
                        read[path] = len(content)
                        self._add(new)
            time.sleep(0.05)

    @property
    def ended(self) -> bool:
        """Whether the task has ended, or could not be started."""
        if self.process.poll() is None:
            return False
        if self.process.returncode:
            return True
        if any("exec-run" in p.cmdline() for p in marked(self.mark) if p.is_running()):
            self._idle_since = None
            return False
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        # Its worker takes some seconds to begin a task, and then to collect what it has made.
        return now - self._idle_since > (COLLECT_SECONDS if BEGINS.search(self.text) else BEGIN_SECONDS)

    @property
    def succeeded(self) -> bool:
        """Whether the experiment is there."""
        return bool(self.experiment)

    @property
    def experiment(self) -> str | None:
        """The name of the experiment that was made."""
        found = re.search(r"Reproducing experiment '([^']+)'", self.text)
        if found is None:
            return None
        command = ["git", "for-each-ref", f"refs/exps/*/*/{found[1]}"]
        listed = subprocess.run(command, cwd=self.folder, text=True, capture_output=True)
        return found[1] if listed.stdout else None


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes that were started with the mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def stage_of(process: psutil.Process) -> str | None:
    """Return the module whose script the process runs: evaluate, where it is a stage of that module."""
    with contextlib.suppress(psutil.Error):
        arguments = process.cmdline()
        if "-m" in arguments[:-1] and (module := arguments[arguments.index("-m") + 1]).startswith("stages."):
            return module.removeprefix("stages.")
    return None


def is_dvc(process: psutil.Process) -> bool:
    """Whether the process is the command dvc."""
    with contextlib.suppress(psutil.Error):
        return any(Path(argument).name == "dvc" for argument in process.cmdline()[:2])
    return False


def outermost(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Leave out those whose parent is among them."""
    pids = {process.pid for process in processes}
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.ppid() not in pids:
                found.append(process)
    return found


def orphans(mark: str) -> list[psutil.Process]:
    """Return the stages that run though no DVC is above them any more."""
    found = []
    for process in outermost([p for p in marked(mark) if stage_of(p)]):
        with contextlib.suppress(psutil.Error):
            if not any(is_dvc(parent) for parent in process.parents()):
                found.append(process)
    return found
