"""Whether one adapter is better than another, or than the base model: on each task, and on their average.

What is tested, and how it is corrected, is in `significance`.
"""

from collections.abc import Mapping, Sequence
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
from sft.statistics.significance import TESTED_ROUGE, Outcome, Verdict, is_tested, verdicts
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS
from sft.tasks.task import AVERAGE

NOTHING = "There is nothing to compare: they have no task with the same scores."


@dataclass(frozen=True)
class Gain:
    """One comparison of after with before; `difference`, `low` and `high` (95%) are as the metric counts.

    `p` is corrected within its family; `outcome` is in the metric's sense: fewer bits are better. What is not
    judged has no interval; it and what is not tested have no p. `note` is for people: why there is no
    verdict, or the minimum detectable difference.
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

    @property
    def by_itself(self) -> Outcome | None:
        """Better or worse where the interval, which no number of tests corrects, excludes 0."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return None
        better = (self.difference < 0) == METRICS[self.metric].lower_is_better
        return Outcome.BETTER if better else Outcome.WORSE


Pair = tuple[np.ndarray, np.ndarray]  # after and before, (runs, examples)


def gains(after: Scores, before: Scores) -> list[Gain]:
    """Compare two models on the tasks that both have, each on the same examples.

    The order is that of the report: bits per byte, ROUGE-1, the tasks' own metrics; of each the average
    first, then the tasks. An average is over the tasks that both have; one task has none. Raises UserError
    where there is nothing to compare, or the examples of a task are not the same.
    """
    pairs = compared(after, before)
    results = {
        ("", task, metric): compare_adapters(
            [signed(one, metric) for one, _ in sides.values()],
            [signed(other, metric) for _, other in sides.values()],
            METRICS[metric].share,
        )
        for (task, metric), sides in pairs.items()
    }
    return [
        _gain(task, metric, pairs[task, metric], verdict)
        for (_, task, metric), verdict in verdicts(results).items()
    ]


def compared(after: Scores, before: Scores) -> dict[tuple[str, str], dict[str, Pair]]:
    """Return what is compared, by task or average and metric: a pair of arrays for each of its tasks."""
    found: dict[str, dict[str, Pair]] = {}
    for task, metric in after:
        if (task, metric) in before and is_tested(metric):
            sides = aligned(task, {"after": after[task, metric], "before": before[task, metric]})
            found.setdefault(metric, {})[task] = (sides["after"], sides["before"])
    if not found:
        raise UserError(NOTHING)
    pairs: dict[tuple[str, str], dict[str, Pair]] = {}
    for metric in sorted(found, key=lambda metric: (metric != BITS_PER_BYTE, metric != TESTED_ROUGE, metric)):
        if METRICS[metric].common and len(found[metric]) > 1:
            pairs[AVERAGE, metric] = found[metric]
        pairs |= {(task, metric): {task: pair} for task, pair in found[metric].items()}
    return pairs


def _gain(task: str, metric: str, pairs: Mapping[str, Pair], verdict: Verdict) -> Gain:
    after, before = (float(np.mean([pair[side].mean() for pair in pairs.values()])) for side in (0, 1))
    low, high = as_counted(verdict.result, metric)[1] or (None, None)
    smallest = min(pairs, key=lambda name: pairs[name][0].shape[-1])
    note = note_of(verdict, metric, smallest)
    return Gain(task, metric, before, after, after - before, low, high, verdict.p, verdict.outcome, note)


def note_of(verdict: Verdict, metric: str, smallest: str = "") -> str:
    """Say why there is no verdict, or the minimum detectable difference; "" where there is nothing to add.

    `smallest` is the task with the fewest examples.
    """
    if isinstance(verdict.result, Refusal):
        return lack_words(verdict.result, smallest)
    if verdict.outcome is Outcome.NOT_TESTED:
        return "as bits per byte do not differ significantly on average"
    if verdict.outcome is Outcome.NO_DIFFERENCE and verdict.smallest is not None:
        return f"minimum detectable: {verdict.smallest:{METRICS[metric].format}}"
    return ""


def as_counted(result: Interval | Refusal, metric: str) -> tuple[float, tuple[float, float] | None]:
    """Return the difference and its interval as the metric counts, which for some is lower for better."""
    sign = -1 if METRICS[metric].lower_is_better else 1
    difference = sign * result.difference + 0.0  # not -0.0
    if not isinstance(result, Interval):
        return difference, None
    low, high = sorted((sign * result.low, sign * result.high))
    return difference, (low, high)


def lack_words(refusal: Refusal, task: str = "") -> str:
    """Say why nothing can be said; `task` is the one with the fewest examples."""
    if refusal.lack is Lack.VARIANCE:
        same = "are the same" if not refusal.difference else "differ by the same"
        return f"no variance: all scores {same}"
    if refusal.lack in (Lack.DATA_SEEDS, Lack.TRAIN_SEEDS):
        return f"replicates of one {refusal.lack.value}"
    noun = refusal.lack.value if refusal.count != 1 else refusal.lack.value.removesuffix("s")
    if refusal.lack is Lack.EXAMPLES:
        return f"{task or 'a task'} has {refusal.count} {noun}, and {FEWEST_EXAMPLES} are needed"
    return f"{refusal.count} {noun}, and {FEWEST_REPLICATES} are needed"


def headline(found: Sequence[Gain], than: str) -> str:
    """Put the verdict into a few words; `than` is what was compared with, such as "the base model"."""
    outcomes = {gain.outcome for gain in found}
    if Outcome.BETTER in outcomes:
        return f"Better than {than}" + (", but in part worse" if Outcome.WORSE in outcomes else "")
    if Outcome.WORSE in outcomes:
        return f"Worse than {than}"
    if outcomes <= {Outcome.NOT_JUDGED}:
        return f"Not judged against {than}"
    return f"No significant difference from {than}"


def sentence(found: Sequence[Gain], than: str) -> str:
    """Put the verdict into one sentence; `than` is what was compared with, such as "the base model".

    It names every task that got better or worse, in either family, or did not differ significantly, those
    that were not tested though their own interval excludes 0, and what could not be judged and why.
    """
    if found and not any(gain.difference for gain in found):
        return f"The same scores as {than} on every task."
    if found and all(gain.outcome is Outcome.NOT_JUDGED for gain in found):
        notes = sorted({gain.note for gain in found} - {""})
        return f"{': '.join([headline(found, than), *([', '.join(notes)] if notes else [])])}."
    better, worse, neither = (
        listed(found, [gain for gain in found if gain.outcome is outcome])
        for outcome in (Outcome.BETTER, Outcome.WORSE, Outcome.NO_DIFFERENCE)
    )
    if better:
        clauses = [f"Better than {than} in {better}", *([f"but worse in {worse}"] if worse else [])]
    elif worse:
        clauses = [f"Worse than {than} in {worse}"]
    else:
        clauses = [headline(found, than)]
    if (better or worse) and neither:
        clauses.append(f"no significant difference in {neither}")
    clauses += [*_not_tested(found), *_not_judged(found)]
    return f"{'; '.join(clauses)}."


def _not_tested(found: Sequence[Gain]) -> list[str]:
    untested = [gain for gain in found if gain.outcome is Outcome.NOT_TESTED]
    if not untested:
        return []
    differing = [f"{gain.task} ({gain.by_itself.value})" for gain in untested if gain.by_itself]
    where = ", ".join(differing)
    though = f", though the uncorrected 95% interval excludes 0 on {where}" if differing else ""
    return [f"bits per byte do not differ significantly on average, so they were not tested by task{though}"]


def _not_judged(found: Sequence[Gain]) -> list[str]:
    """Name what could not be judged, by the reason; all of it, or metric by metric."""
    refused = [gain for gain in found if gain.outcome is Outcome.NOT_JUDGED]
    clauses = []
    for note in dict.fromkeys(gain.note for gain in refused):
        names = listed(found, [gain for gain in refused if gain.note == note])
        clauses.append(f"not judged in {names}" + (f" ({note})" if note else ""))
    return clauses


def listed(found: Sequence[Gain], some: Sequence[Gain]) -> str:
    """Name the metrics of some of what was found, to come after "in": each with on average, on tasks."""
    parts = []
    for metric in dict.fromkeys(gain.metric for gain in some):
        of_metric = [gain for gain in found if gain.metric == metric]
        named = [gain.task for gain in some if gain.metric == metric]
        if named == [AVERAGE, *(gain.task for gain in of_metric if gain.task != AVERAGE)]:
            where = " on average and on every task"
        elif not METRICS[metric].common and len(of_metric) == 1:  # one task's own
            where = ""
        else:
            where = f" {_and(['on average' if task == AVERAGE else f'on {task}' for task in named])}"
        parts.append(f"{METRICS[metric].label}{where}")
    return ", and in ".join([", in ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
