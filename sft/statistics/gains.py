"""Whether one adapter is better than another, or than the base model: on each task, and on their average.

What is tested, and how it is corrected, is in `significance`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sft.core.errors import UserError
from sft.statistics.intervals import (
    FEWEST_EXAMPLES,
    FEWEST_REPLICATES,
    Interval,
    Lack,
    Refusal,
    compare_adapters,
)
from sft.statistics.scores import Scores, aligned, signed
from sft.statistics.significance import ROUGE, Outcome, Verdict, is_tested, verdicts
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS
from sft.tasks.task import AVERAGE


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


Pair = tuple[np.ndarray, np.ndarray]  # after and before, (runs, examples)


def gains(after: Scores, before: Scores) -> list[Gain]:
    """Compare two models on the tasks that both have, each on the same examples.

    The order is that of the report: bits per byte, ROUGE-1, the tasks' own metrics; of each the average
    first, then the tasks. An average is over the tasks that both have. Raises UserError where there is
    nothing to compare, or the examples of a task are not the same.
    """
    pairs = compared(after, before)
    results = {
        ("", task, metric): compare_adapters(
            [signed(one, metric) for one, _ in sides],
            [signed(other, metric) for _, other in sides],
            METRICS[metric].share,
        )
        for (task, metric), sides in pairs.items()
    }
    return [
        _gain(task, metric, pairs[task, metric], verdict)
        for (_, task, metric), verdict in verdicts(results).items()
    ]


def compared(after: Scores, before: Scores) -> dict[tuple[str, str], list[Pair]]:
    """Return what is compared, by task or average and metric: a pair of arrays for each of its tasks."""
    found: dict[str, dict[str, Pair]] = {}
    for task, metric in after:
        if (task, metric) in before and is_tested(metric):
            sides = aligned(task, {"after": after[task, metric], "before": before[task, metric]})
            found.setdefault(metric, {})[task] = (sides["after"], sides["before"])
    if not found:
        raise UserError("There is nothing to compare: the two have no task with the same scores.")
    pairs: dict[tuple[str, str], list[Pair]] = {}
    for metric in sorted(found, key=lambda metric: (metric != BITS_PER_BYTE, metric != ROUGE, metric)):
        if METRICS[metric].common:
            pairs[AVERAGE, metric] = list(found[metric].values())
        pairs |= {(task, metric): [pair] for task, pair in found[metric].items()}
    return pairs


def _gain(task: str, metric: str, pairs: Sequence[Pair], verdict: Verdict) -> Gain:
    after, before = (float(np.mean([pair[side].mean() for pair in pairs])) for side in (0, 1))
    low, high = as_counted(verdict.result, metric)[1] or (None, None)
    note = ""
    if isinstance(verdict.result, Refusal):
        note = lack_words(verdict.result)
    elif verdict.closed:
        note = "tested only where the average's bits per byte differ significantly"
    elif verdict.outcome is Outcome.NO_DIFFERENCE:
        note = f"smallest it could see: {verdict.smallest:{METRICS[metric].format}}"
    return Gain(task, metric, before, after, after - before, low, high, verdict.p, verdict.outcome, note)


def as_counted(result: Interval | Refusal, metric: str) -> tuple[float, tuple[float, float] | None]:
    """Return the difference and its interval as the metric counts, which for some is lower for better."""
    sign = -1 if METRICS[metric].lower_is_better else 1
    difference = sign * result.difference + 0.0  # not -0.0
    if not isinstance(result, Interval):
        return difference, None
    low, high = sorted((sign * result.low, sign * result.high))
    return difference, (low, high)


def lack_words(refusal: Refusal) -> str:
    """Say why nothing can be said."""
    if refusal.lack is Lack.VARIANCE:
        same = "are the same" if not refusal.difference else "differ by the same"
        return f"no variance: all scores {same}"
    if refusal.lack in (Lack.DATA_SEEDS, Lack.TRAIN_SEEDS):
        return f"replicates of one {refusal.lack.value}"
    noun = refusal.lack.value if refusal.count != 1 else refusal.lack.value.removesuffix("s")
    needed = FEWEST_EXAMPLES if refusal.lack is Lack.EXAMPLES else FEWEST_REPLICATES
    return f"{refusal.count} {noun}, and {needed} are needed"


def sentence(found: Sequence[Gain], than: str) -> str:
    """Put the verdict into one sentence; `than` is what was compared with, such as "the base model".

    It names every task that got better or worse, in either family, and those of which nothing can be said.
    """
    if found and not any(gain.difference for gain in found):
        return f"The same scores as {than} on every task."
    better, worse = (_listed(found, outcome) for outcome in (Outcome.BETTER, Outcome.WORSE))
    if better and worse:
        return f"Better than {than} in {better}; but worse in {worse}{_rest(found)}."
    if better:
        return f"Better than {than} in {better}{_rest(found)}."
    if worse:
        return f"Worse than {than} in {worse}{_rest(found)}."
    if reasons := {gain.note for gain in found} if _none_judged(found) else None:
        return f"Nothing can be said against {than}: {', '.join(sorted(reasons))}."
    return f"Not told apart from {than}, on average or on any task."


def _none_judged(found: Sequence[Gain]) -> bool:
    return all(gain.outcome is Outcome.NOT_JUDGED for gain in found)


def _rest(found: Sequence[Gain]) -> str:
    """Name the tasks on which nothing is significant."""
    told = {gain.task for gain in found if gain.outcome in (Outcome.BETTER, Outcome.WORSE)}
    rest = [task for task in dict.fromkeys(gain.task for gain in found) if task not in {*told, AVERAGE}]
    return f"; not told apart on {', '.join(rest)}" if rest else ""


def _listed(found: Sequence[Gain], outcome: Outcome) -> str:
    """Name metrics, each with where it has this outcome: on average, on tasks."""
    parts = []
    for metric in dict.fromkeys(gain.metric for gain in found):
        of_metric = [gain for gain in found if gain.metric == metric]
        named = [gain.task for gain in of_metric if gain.outcome is outcome]
        if named == [AVERAGE, *(gain.task for gain in of_metric if gain.task != AVERAGE)]:
            where = " on average and on every task"
        elif not METRICS[metric].common and len(of_metric) == 1:  # one task's own
            where = ""
        else:
            tasks = [task for task in named if task != AVERAGE]
            places = ["on average"] * (AVERAGE in named) + ([f"on {', '.join(tasks)}"] if tasks else [])
            where = f" {' and '.join(places)}"
        if named:
            parts.append(f"{METRICS[metric].label}{where}")
    return ", ".join(parts)
