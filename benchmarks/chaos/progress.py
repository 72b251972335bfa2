"""What a stage's own output says of the work that it has done, and of that which it need not do again."""

import re
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.chaos.processes import Run

STEP = re.compile(r"training:[^\r\n]*?\| (\d+)/(\d+) \[")
GOING_ON = re.compile(r"^going on from step ([\d,]+) of", re.MULTILINE)
ANSWERING = re.compile(r"answering (\w+):[^\r\n]*?\| (\d+)/\d+ \[")
ANSWERS_KEPT = re.compile(r"^going on: ([\d,]+) of", re.MULTILINE)
# The bar is written anew once a second at most.
BAR_SECONDS = 1.0


@dataclass(frozen=True)
class Trained:
    """The steps that the progress bar of a training showed, each with the time at which it was first seen."""

    begun_at: int
    seen: dict[int, float]

    @classmethod
    def of(cls, run: Run) -> "Trained | None":
        """Read a run's bar; None where no training began."""
        seen: dict[int, float] = {}
        for found in STEP.finditer(run.text):
            seen.setdefault(int(found[1]), run.time_of(found.start()))
        return cls(went_on_from(run.text) or 0, seen) if seen else None

    @property
    def last(self) -> int:
        """The last step shown."""
        return max(self.seen)

    @property
    def longest(self) -> float:
        """The longest time between two steps shown, in seconds; a validation between them counts."""
        times = sorted(self.seen.values())
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def lost(self, step: int, until: float) -> float:
        """Return the seconds of training up to `until` that are done again by one that begins at `step`."""
        since = [time for seen, time in self.seen.items() if seen >= step]
        return max(0.0, until - min(since)) if since else 0.0


def went_on_from(text: str) -> int | None:
    """Return the step from which training says that it goes on."""
    return _number(GOING_ON.search(text))


def answered(text: str) -> int | None:
    """Return how many answers an evaluation's bars show; None where none has begun."""
    shown: dict[str, int] = {}
    for found in ANSWERING.finditer(text):
        shown[found[1]] = int(found[2])
    return sum(shown.values()) if shown else None


def answers_kept(text: str) -> int | None:
    """Return how many answers an evaluation says are there from before."""
    return _number(ANSWERS_KEPT.search(text))


def goes_on(text: str) -> bool:
    """Whether a stage says that it goes on with what one before has done."""
    return GOING_ON.search(text) is not None or ANSWERS_KEPT.search(text) is not None


def _number(found: re.Match[str] | None) -> int | None:
    return int(found[1].replace(",", "")) if found else None
