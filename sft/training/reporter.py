"""Reporting a training to experiment trackers, which may fail or hang without harm to the training."""

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sft.core.masking import masked
from sft.modeling.labels import Rows
from sft.training import compat, trackers
from sft.training.own_thread import OwnThread
from sft.training.throughput import memory_gib
from sft.training.trackers import Begun, Reports

# Seconds that a tracker is waited for at its beginning and its end, and that it may be behind the training:
# more than the trackers themselves take to give a server up.
PATIENCE = 90.0


@dataclass
class Pace:
    """What the trainer does not log of a step: tokens a second, and memory."""

    rows: Rows
    batch_size: int
    step_seconds: list[float]

    def of(self, step: int) -> dict[str, float]:
        """Return both for the step that has just been logged, the last of `step_seconds`."""
        rows = self.rows[(step - 1) * self.batch_size : step * self.batch_size]
        tokens = sum(len(row["input_ids"]) for row in rows)
        return {
            "tokens_per_second": round(tokens / self.step_seconds[-1], 1),
            "memory_gib": memory_gib(),
        }


@dataclass
class Described:
    """What the integrations ask of the trainer's arguments: the run's name, and params, the user's."""

    run_name: str
    params: dict[str, Any]
    output_dir: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the params by dotted names."""
        return dict(self.params)

    def to_json_string(self) -> str:
        """Return the params as JSON."""
        return json.dumps(self.params, indent=2, default=str)


@dataclass(frozen=True)
class _Tracker:
    """A tracker's run, and the thread that tells it."""

    begun: Begun
    thread: OwnThread


@dataclass
class Reporter:
    """The trackers that one training reports to, from `step` on; `ids` are their runs', by tracker.

    Where an id is there, it goes on in that run; what is begun is added. Each is told in a thread of its own,
    so its time is no step's. One that raises, or is PATIENCE behind, is warned of once and told nothing from
    then on, until it is ended: training does not depend on it. `waited` are the seconds that their beginning
    and their end have taken.
    """

    reports: Reports
    pace: Pace
    ids: dict[str, str]
    step: int
    waited: float = 0.0
    _begun: dict[str, _Tracker] = field(default_factory=dict)
    _lost: set[str] = field(default_factory=set)
    _warned: set[str] = field(default_factory=set)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Begin the runs, or go on in those that there are; end them however this ends."""
        with (
            _environment(),
            compat.mlflow_errors(self._warn_of_mlflow),
        ):
            with self._waiting():
                for name in self.reports.names:
                    self._begin(name)
            finished = False
            try:
                yield
                finished = True
            finally:
                with self._waiting():
                    self._end(finished)

    def callback(self) -> Any:
        """Make the trainer callback that hands on what the trainer logs."""
        from transformers import TrainerCallback

        reporter = self
        described: Any = Described(self.reports.run, self.reports.params)

        class HandOn(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                now = copy.copy(state)  # the trainer goes on with its own
                reporter._each(lambda callback: callback.on_train_begin(described, now, control))

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                now, told = copy.copy(state), dict(logs or {})
                if "loss" in told:
                    told |= reporter._pace_of(state.global_step)
                reporter._each(lambda callback: callback.on_log(described, now, control, logs=dict(told)))

        return HandOn()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        since = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - since

    def _begin(self, name: str) -> None:
        before, thread = self.ids.get(name), OwnThread(f"report to {name}")
        asked = thread.ask(partial(trackers.begin, name, self.reports, before, self.step))
        # One after another: they import the same packages.
        futures.wait([asked], PATIENCE)
        if not asked.done():
            self._warn(name, f"it has not begun within {PATIENCE:.0f} s")
            thread.ask(lambda: asked.result().end(False))  # should it begin yet
            thread.close()
            return
        if error := asked.exception():
            thread.close()
            self._warn(name, error)
            return
        begun = asked.result()
        self._begun[name], self.ids[name] = _Tracker(begun, thread), begun.id
        how = "report"
        if before:
            how = "report on" if begun.id == before else "report anew"
        print(f"{how:<11} {name}: {masked(begun.seen)}", flush=True)

    def _end(self, finished: bool) -> None:
        """Have all trackers end their runs; wait for those that are not behind already."""
        ending = {}
        for name, tracker in self._begun.items():
            behind = tracker.thread.behind() > PATIENCE
            if behind:
                self._give_up(name, "it lacks the last steps")
            ended = tracker.thread.ask(partial(self._try, name, tracker.begun.end, finished))
            tracker.thread.close()
            if not behind:
                ending[name] = ended
        futures.wait(ending.values(), PATIENCE)
        for name, ended in ending.items():
            if not ended.done():
                self._lost.add(name)  # what it has not been told yet, it is not told
                self._warn(name, f"it has not ended within {PATIENCE:.0f} s", "it may lack some steps")

    def _pace_of(self, step: int) -> dict[str, float]:
        try:
            return self.pace.of(step)
        except Exception as error:
            self._warn("tokens_per_second, memory_gib", error, "they are not reported")
            return {}

    def _each(self, call: Callable[[Any], None]) -> None:
        for name, tracker in self._begun.items():
            if name in self._lost:
                continue
            if tracker.thread.behind() > PATIENCE:
                self._give_up(name)
                continue
            tracker.thread.ask(partial(self._tell, name, call, tracker.begun.callback))

    def _give_up(self, name: str, what: str = "training goes on without it") -> None:
        if name not in self._lost:
            self._lost.add(name)
            self._warn(name, f"it is {PATIENCE:.0f} s behind", what)

    def _tell(self, name: str, call: Callable[[Any], None], callback: Any) -> None:
        if name not in self._lost:
            self._try(name, call, callback)

    def _try(self, name: str, call: Callable[[Any], None], value: Any) -> None:
        try:
            call(value)
        except Exception as error:
            self._lost.add(name)
            self._warn(name, error)

    def _warn_of_mlflow(self, error: str) -> None:
        self._warn("mlflow", error, "it lacks some of this training")

    def _warn(self, name: str, error: object, what: str = "training goes on without it") -> None:
        if name not in self._warned:
            self._warned.add(name)
            reason = " ".join(masked(str(error)).split())[:400] or type(error).__name__
            print(f"warning: {name}: {reason} ({what}).", file=sys.stderr, flush=True)


@contextmanager
def _environment() -> Iterator[None]:
    """Set the variables of the trackers and of what they log by for as long as one reports."""
    before = dict(os.environ)
    os.environ.update({**{k: v for k, v in trackers.DEFAULTS.items() if k not in before}, **trackers.FIXED})
    try:
        yield
    finally:
        for name in {**trackers.DEFAULTS, **trackers.FIXED}:
            os.environ.pop(name, None)
        os.environ.update(before)
