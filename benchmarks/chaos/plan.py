"""When which run is killed and by what: drawn by a seed; every stage and every means has its turn."""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.processes import MEANS, Means

# How often a stage is drawn: what takes long is what is killed in practice.
TURNS = {"train": 4, "baseline": 2, "evaluate": 2}
# Seconds before the first stage, and after a stage's script has ended, in which DVC works on its own.
DVC_STARTS, DVC_SAVES = 2.0, 1.5
# What a run is of: its kind, and the stage in which it is killed before the params become those wanted. Until
# then a param of that stage is another, so that what the stage has done so far must not be used.
RUNS: tuple[tuple[str, str | None], ...] = (
    ("repro", None),
    ("exp run", "train"),
    ("exp run --temp", None),
    ("repro", "baseline"),
    ("exp run", None),
    ("exp run --temp", "train"),
    ("queue", None),
)
OTHER: Mapping[str, tuple[str, Any]] = {
    "train": ("train.learning_rate", 0.001),
    "baseline": ("evaluate.temperature", 0.9),
}


@dataclass(frozen=True)
class Moment:
    """So many seconds after a place: `start`, a stage's beginning, or `after STAGE`, its script's end.

    With `shows`, a pattern, the seconds count from when the run has printed it since then.
    """

    place: str
    means: Means
    seconds: float = 0.0
    shows: str = ""


@dataclass(frozen=True)
class Chain:
    """One run, started again and again: killed at these moments, at last left alone."""

    kind: str
    moments: tuple[Moment, ...]
    # The stage after whose kill the params become those wanted; None: they are so from the start.
    changes_in: str | None = None


def chains(stages: Mapping[str, float], kills: int, seed: int) -> Iterator[Chain]:
    """Draw chains without end: one of each of `RUNS`, with so many kills together, and again.

    `stages` has the seconds that each takes, in the order in which they run.
    """
    rng = random.Random(seed)
    places: list[str] = []
    means: list[Means] = []
    for number in itertools.count():
        kind, changes_in = RUNS[number % len(RUNS)]
        count = max(1, (kills + len(RUNS) - 1 - number % len(RUNS)) // len(RUNS))
        drawn = [changes_in] if changes_in else []
        while len(drawn) < count:
            places = places or _deck(list(stages), rng)
            drawn.append(places.pop())
        moments = []
        for place in sorted(drawn, key=lambda place: _order(place, list(stages))):
            means = means or rng.sample(MEANS, len(MEANS))
            # Late enough that there is something of the other params that could be taken for one's own.
            least = 0.6 if place == changes_in else 0.0
            # What goes on with the work of before takes less time the next time.
            times = 1 if place == changes_in else drawn.count(place)
            seconds = rng.uniform(least, 1) * _length(place, stages) / times
            moments.append(Moment(place, means.pop(), seconds))
        yield Chain(kind, tuple(moments), changes_in)


def _deck(stages: list[str], rng: random.Random) -> list[str]:
    deck = [stage for stage in stages for _ in range(TURNS.get(stage, 1))]
    deck += ["start", f"after {rng.choice(stages[:-1])}", f"after {stages[-1]}"]
    return rng.sample(deck, len(deck))


def _order(place: str, stages: list[str]) -> float:
    if place == "start":
        return -1
    after = place.startswith("after ")
    return stages.index(place.removeprefix("after ")) + (0.5 if after else 0)


def _length(place: str, stages: Mapping[str, float]) -> float:
    if place == "start":
        return DVC_STARTS
    if place.startswith("after "):
        return DVC_SAVES
    # The script's own time: in the rest DVC saves what it has written.
    return max(stages[place] - DVC_SAVES, stages[place] / 2)
