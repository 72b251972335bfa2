"""Whether one adapter is better than another, or than the base model: on each task, and on their average.

What is tested is fixed: bits per byte of the references, first on the average of the tasks and, only if that
is significant, on each task; and beside it what the answers show, ROUGE-1 and the tasks' own metrics. Each of
the two families is kept at 5%.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from sft.core.errors import UserError
from sft.statistics.intervals import Interval, Refusal, compare_adapters
from sft.statistics.scores import Scores, ScoresOf
from sft.statistics.significance import Outcome, holm, smallest_difference
from sft.tasks.metric_names import METRICS

AVERAGE = "average"
LIKELIHOOD = "bits_per_byte"
# ROUGE-1, -2 and -L of an answer rise and fall together: one of them speaks for all, at a third of the price.
ROUGE = "rouge1"
LEVEL = 0.05


@dataclass(frozen=True)
class Gain:
    """One comparison of after with before; `difference`, `low` and `high` (95%) are as the metric counts.

    `p` is corrected within its family; `outcome` is in the metric's sense: fewer bits are better. What is not
    judged has no interval and no p. `note` is for people: why it is not judged, or what could have been seen.
    """

    task: str
    metric: str
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    outcome: Outcome
    note: str


def lower_is_better(metric: str) -> bool:
    """Tell whether fewer of the metric is better."""
    return metric == LIKELIHOOD or METRICS[metric].lower_is_better


def gains(after: Scores, before: Scores) -> list[Gain]:
    """Compare two models by what both were scored on, over the same examples.

    Raises UserError where there is nothing that both have, or the examples of a task are not the same.
    """
    pairs = {key: aligned(key, after[key], before[key]) for key in after if key in before}
    likelihood = {task: pair for (task, metric), pair in pairs.items() if metric == LIKELIHOOD}
    rouge = {task: pair for (task, metric), pair in pairs.items() if metric == ROUGE}
    own = {
        key: [pair]
        for key, pair in pairs.items()
        if key[1] != LIKELIHOOD and key[1] in METRICS and not METRICS[key[1]].common
    }
    if not likelihood and not rouge:
        raise UserError("There is nothing to compare: the two have no task with scores in common.")
    first = {(AVERAGE, LIKELIHOOD): list(likelihood.values())} if likelihood else {}
    tasks = {(task, LIKELIHOOD): [pair] for task, pair in likelihood.items()}
    answers = {(AVERAGE, ROUGE): list(rouge.values())} if rouge else {}
    answers |= {(task, ROUGE): [pair] for task, pair in rouge.items()} | own
    found = [*_judged(first)]
    passed = bool(found) and found[0].p is not None and found[0].p < LEVEL
    return [*found, *_gated(_judged(tasks), passed), *_judged(answers)]


Pair = tuple[np.ndarray, np.ndarray]


def _judged(family: dict[tuple[str, str], list[Pair]]) -> list[Gain]:
    results = {
        (task, metric): compare_adapters([after for after, _ in pairs], [before for _, before in pairs])
        for (task, metric), pairs in family.items()
    }
    intervals = {key: result for key, result in results.items() if isinstance(result, Interval)}
    corrected = dict(zip(intervals, holm([interval.p for interval in intervals.values()]), strict=True))
    return [
        _gain(key, family[key], result, corrected.get(key), len(intervals)) for key, result in results.items()
    ]


def _gain(
    key: tuple[str, str], pairs: list[Pair], result: Interval | Refusal, p: float | None, comparisons: int
) -> Gain:
    task, metric = key
    after, before = (float(np.mean([pair[side].mean() for pair in pairs])) for side in (0, 1))
    difference = after - before
    if not isinstance(result, Interval) or p is None:
        note = "too few examples"
        return Gain(task, metric, before, after, difference, None, None, None, Outcome.NOT_JUDGED, note)
    outcome, note = (
        Outcome.NO_DIFFERENCE,
        f"smallest it could: {smallest_difference(result, comparisons):.4f}",
    )
    if p < LEVEL:
        better = (difference < 0) == lower_is_better(metric)
        outcome, note = (Outcome.BETTER if better else Outcome.WORSE), ""
    return Gain(task, metric, before, after, difference, result.low, result.high, p, outcome, note)


def _gated(found: list[Gain], passed: bool) -> Iterable[Gain]:
    if passed:
        return found
    note = "not tested, for the average's bits per byte do not differ significantly"
    return [replace(gain, outcome=Outcome.NO_DIFFERENCE, note=note) for gain in found]


def aligned(key: tuple[str, str], after: ScoresOf, before: ScoresOf) -> Pair:
    """Return both sides' values, before's examples in after's order; raise UserError where they differ."""
    if set(after.examples) != set(before.examples):
        only = [sorted(set(a.examples) - set(b.examples)) for a, b in ((after, before), (before, after))]
        example = (only[0] or only[1])[0]
        raise UserError(
            f"{key[0]}, {key[1]}: the two were not scored on the same examples: {len(only[0]):,} are in the "
            f"first only and {len(only[1]):,} in the second only ({example!r} for one). Evaluate both with "
            "the same evaluate.examples, data.holdout and tasks."
        )
    place = {example: index for index, example in enumerate(before.examples)}
    return after.values, before.values[:, [place[example] for example in after.examples]]


def sentence(found: list[Gain], than: str) -> str:
    """Put the verdict into one sentence, `than` being what was compared with: "the base model"."""
    primary = next((gain for gain in found if (gain.task, gain.metric) == (AVERAGE, LIKELIHOOD)), None)
    outcome = primary.outcome if primary else Outcome.NOT_JUDGED
    head = {
        Outcome.BETTER: f"Better than {than} by bits per byte on average",
        Outcome.WORSE: f"Worse than {than} by bits per byte on average",
        Outcome.NO_DIFFERENCE: f"Not told apart from {than} by bits per byte on average",
        Outcome.NOT_JUDGED: f"Bits per byte cannot be judged against {than}",
    }[outcome]
    parts = [head]
    for one in (Outcome.BETTER, Outcome.WORSE):
        names: dict[str, list[str]] = {}
        for gain in found:
            if gain.outcome is one and gain is not primary:
                names.setdefault(_label(gain.metric), []).append(gain.task)
        if names:
            listed = ", ".join(f"{metric} of {' and '.join(tasks)}" for metric, tasks in names.items())
            parts.append(f"{one.value}: {listed}")
    return "; ".join(parts) + "."


def _label(metric: str) -> str:
    return "bits per byte" if metric == LIKELIHOOD else METRICS[metric].label
