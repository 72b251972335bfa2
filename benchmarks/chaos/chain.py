"""Running a chain: a command killed again and again, run again each time, and what is there in the end."""

import contextlib
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.chaos.outcome import MISSING, Outcome, differences, leftovers, outcome
from benchmarks.chaos.plan import Chain, Moment
from benchmarks.chaos.processes import NOBODY, Run, marked, orphans, stage_of
from benchmarks.chaos.progress import BAR_SECONDS, Trained, answered, answers_kept, goes_on, went_on_from
from benchmarks.chaos.repository import LIMIT_SECONDS, Repository

# How long a stage that has lost its DVC may take to save what it has done and to end.
ORPHAN_SECONDS = 10.0
# A command may be refused while one is just ending; then it is run again. More often, and a user would look.
REFUSALS, REFUSED_SECONDS = 4, 3.0
LEFT_LOCK = re.compile(r"File exists: '.*\.lock'")
OWN_WORK = {"notes.txt": "the user's own, in no commit\n", "data/raw/README.md": "\nThe user's own line.\n"}


@dataclass
class Kill:
    """One kill: when, by what, and what it cost."""

    chain: int
    kind: str
    place: str
    means: str
    seconds_into_run: float
    # Where training was hit: the last step shown, and the step from which the next training went on.
    step: int | None = None
    went_on_from: int | None = None
    done_twice_seconds: float | None = None
    # The most that may be done twice: the interval between two checkpoints, and the step under way.
    allowed_seconds: float | None = None
    # Where an evaluation was hit: the answers that its bars had shown, and those that the next one had of it.
    answers: int | None = None
    answers_kept: int | None = None
    # The stages that still ran some seconds later though their DVC was gone.
    orphans: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What came of a chain. `leftovers` only take room; the other lists are faults."""

    chain: int
    kind: str
    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    refused: int = 0
    went_on: int = 0
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    manual: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    seconds: float = 0.0
    output: str = field(default="", repr=False)


class ChainRun:
    """A chain on its way.

    `wanted` are the params in the end, `other` those until the kill in the stage `chain.changes_in`. `order`
    has the stages as they run, `interval` the seconds between two checkpoints.
    """

    def __init__(
        self,
        number: int,
        chain: Chain,
        repository: Repository,
        wanted: Mapping[str, Any],
        other: Mapping[str, Any],
        order: Sequence[str],
        interval: float,
        rng: random.Random,
    ):
        self.chain, self.repository, self.wanted, self.other = chain, repository, wanted, other
        self.order, self.interval, self.rng = order, interval, rng
        self.report = Report(number, chain.kind)
        self.waiting = list(chain.moments)
        self.changed = chain.changes_in is None
        self.just_changed = False
        # The last kill of a training, and of an evaluation by stage, whose successor has not begun yet.
        self.training: tuple[Kill, Trained, float] | None = None
        self.evaluations: dict[str, Kill] = {}
        self.watches: list[threading.Thread] = []

    def until_done(self, expected: Outcome) -> Report:
        """Run, kill and run again until it ends by itself; then compare with what is expected."""
        begun = time.monotonic()
        for name, text in OWN_WORK.items():
            with (self.repository.folder / name).open("a", encoding="utf-8") as file:
                file.write(text)
        of_before = self.repository.run("git", "status", "--porcelain").stdout
        refused = 0
        while refused <= REFUSALS:
            run = self.repository.start(self.chain.kind, self.wanted if self.changed else self.other)
            self.report.runs += 1
            came = self.waiting and wait_until(run, self.waiting[0], self.order)
            if not came or not self._kill(run):
                _wait_for_end(run)
                self._read(run, "left alone")
                if not run.succeeded:
                    refused += 1
                    time.sleep(REFUSED_SECONDS)
                    if LEFT_LOCK.search(run.text):  # as docs/recovery.md says
                        self._rescue()
                elif self.changed:
                    self._compare(run, of_before, expected)
                    break
                else:
                    self.changed = self.just_changed = True
        else:
            self.report.manual.append(f"the command does not run any more: {_last_line(run.text)}")
        for process in marked(self.repository.mark):  # a queue's worker, which waits for more
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        self.report.refused = refused
        self.report.seconds = round(time.monotonic() - begun, 1)
        return self.report

    def _kill(self, run: Run) -> bool:
        """Kill a run at the moment that has come; return False where it has just ended by itself."""
        moment, place = self.waiting[0], _place(run)
        seconds, at_once = time.monotonic() - run.started, self.rng.random() < 0.5
        whom = run.send(moment.means, self.rng)
        killed_at = time.monotonic()
        if whom == NOBODY:
            return False
        self.waiting.pop(0)
        kill = Kill(
            self.report.chain, self.chain.kind, place, f"{moment.means.signal.name} {whom}", round(seconds, 1)
        )
        self.report.kills.append(kill)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(LIMIT_SECONDS)
        watch = threading.Thread(target=_watch, args=(orphans(self.repository.mark), kill))
        watch.start()
        self.watches.append(watch)
        if not at_once:
            watch.join()
        self._read(run, f"{kill.means} in {kill.place}")
        trained, answers = Trained.of(run), answered(run.of_stage(place))
        if place == "train" and trained:
            kill.step = trained.last
            self.training = kill, trained, killed_at
        elif answers is not None:
            kill.answers = answers
            self.evaluations[place] = kill
        if not self.changed and moment.place == self.chain.changes_in:
            self.changed = self.just_changed = True
            self.training, self.evaluations = None, {}
        if self.chain.kind == "exp run":
            self._rescue()
        return True

    def _read(self, run: Run, how: str) -> None:
        """Take from what a run has printed whether and from where it went on."""
        self.report.output += f"\n=== {self.chain.kind}, {how}\n{run.text}"
        if goes_on(run.text):
            self.report.went_on += 1
            if self.just_changed:
                self.report.stale.append("a run went on with what was done with other params")
        self.just_changed = False
        began, step = Trained.of(run), went_on_from(run.text)
        if self.training and (began or step is not None):
            kill, trained, killed_at = self.training
            kill.went_on_from = step or 0
            kill.done_twice_seconds = round(trained.lost(kill.went_on_from, killed_at), 1)
            kill.allowed_seconds = round(self.interval + trained.longest + BAR_SECONDS, 1)
            self.training = None
        for stage, kill in list(self.evaluations.items()):
            text = run.of_stage(stage)
            if answers_kept(text) is not None or answered(text) is not None:
                kill.answers_kept = answers_kept(text) or 0
                del self.evaluations[stage]

    def _rescue(self) -> None:
        """Do what a user does after a killed `dvc exp run`."""
        for _ in range(REFUSALS):
            done = self.repository.run(sys.executable, "-m", "scripts.rescue")
            self.report.output += f"\n=== rescue\n{done.stdout}{done.stderr}"
            if done.returncode == 0:
                return
            time.sleep(REFUSED_SECONDS)
        self.report.manual.append(f"rescue: {_last_line(done.stderr)}")

    def _compare(self, run: Run, of_before: str, expected: Outcome) -> None:
        report, repository = self.report, self.repository
        for watch in self.watches:
            watch.join()
        if self.chain.kind in ("exp run --temp", "queue"):
            if (now := repository.run("git", "status", "--porcelain").stdout) != of_before:
                report.lost.append(f"the workspace did not stay as it was: {now!r}")
            applied = repository.run("dvc", "exp", "apply", str(run.experiment))
            if applied.returncode:
                report.manual.append(f"dvc exp apply {run.experiment}: {_last_line(applied.stderr)}")
        for path, how in differences(expected, outcome(repository.folder)):
            found = report.stale if self.chain.changes_in and how != MISSING else report.lost
            found.append(f"{path}: {how}")
        status = repository.run("dvc", "status")
        if status.returncode or "up to date" not in status.stdout:
            report.stale.append(f"dvc status: {status.stdout.strip()}{status.stderr.strip()}")
        broken, report.leftovers = leftovers(repository.folder, OWN_WORK)
        report.manual += broken


def wait_until(run: Run, moment: Moment, order: Sequence[str]) -> bool:
    """Wait for a moment, or for the same in a later stage; return False where the run ends before."""
    stage = moment.place.removeprefix("after ")
    reached = order[order.index(stage) :] if stage in order else order
    since: float | None = None
    while not run.ended and time.monotonic() < run.started + LIMIT_SECONDS:
        if since is None and _reached(run, moment, reached):
            since = time.monotonic()
        if since is not None and time.monotonic() >= since + moment.seconds:
            return True
        time.sleep(0.02 if moment.shows else 0.05)
    return False


def _reached(run: Run, moment: Moment, stages: Sequence[str]) -> bool:
    if moment.place == "start":
        return True
    begun = [offset for name, offset in run.begun().items() if name in stages]
    if not begun or (moment.place.startswith("after ") and _stage_running(run)):
        return False
    return not moment.shows or re.search(moment.shows, run.text[min(begun) :]) is not None


def _stage_running(run: Run) -> bool:
    return any(stage_of(process) for process in marked(run.mark))


def _wait_for_end(run: Run) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not run.ended and time.monotonic() < end:
        time.sleep(0.1)


def _place(run: Run) -> str:
    """Say where a run is: a stage, or DVC's own work before or after one."""
    begun = list(run.begun())
    if not begun:
        return "DVC before the first stage"
    if _stage_running(run):
        return begun[-1]
    return f"DVC after {begun[-1]}"


def _watch(processes: list[psutil.Process], kill: Kill) -> None:
    _, alive = psutil.wait_procs(processes, ORPHAN_SECONDS)
    kill.orphans = [str(stage_of(process)) for process in alive]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing printed"])[-1]
