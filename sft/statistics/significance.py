"""Which differences are significant: verdicts on the comparisons of a report, corrected for their number.

What is tested is fixed beforehand, in two families, each kept at 5%:

- the likelihood, in a fixed sequence: bits per byte on the average of the tasks, and only where that is
  significant on each task (Holm). Of several pairs that a report compares each gets its share of the 5%;
- the answers, by Holm's method: ROUGE-1 on the average and on each task, and the tasks' own metrics.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from sft.statistics.intervals import LEVEL, Interval, Refusal
from sft.statistics.power import smallest_difference
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS
from sft.tasks.task import AVERAGE

# One of ROUGE-1, -2 and -L speaks for all, at a third of the price in correction: in docs/study ROUGE-1's and
# ROUGE-L's differences, example by example, have a correlation of 0.90 to 0.99.
ROUGE = "rouge1"


class Outcome(Enum):
    """What came of a comparison of first with second."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference"  # that this design can see
    NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Verdict:
    """A comparison's result and outcome, and its p, corrected for the `comparisons` of its family.

    What is not judged has no p; its `result` says what is lacking. `closed`: on a task, where the average's
    bits per byte do not differ significantly, so that the task was not tested.
    """

    result: Interval | Refusal
    outcome: Outcome
    p: float | None = None
    comparisons: int = 1
    closed: bool = False

    @property
    def smallest(self) -> float | None:
        """The smallest difference in sight; of a task's bits per byte, once the average's is found."""
        if isinstance(self.result, Refusal):
            return None
        return smallest_difference(self.result, self.comparisons)

    @property
    def significant(self) -> bool:
        """Whether there is a difference, at 5% for all comparisons of the family together."""
        return self.outcome in (Outcome.BETTER, Outcome.WORSE)


# What is compared, on which task or the average, by which metric.
Key = tuple[Hashable, str, str]
Of = TypeVar("Of", bound=Hashable)


def is_tested(metric: str) -> bool:
    """Tell whether differences of the metric are tested: bits per byte, ROUGE-1, and tasks' own metrics."""
    return metric in (BITS_PER_BYTE, ROUGE) or not METRICS[metric].common


def holm(p: Sequence[float], family: int = 0) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method (Holm 1979), in their order.

    Of a larger `family` the p-values that are not there are taken for the largest ones.
    """
    corrected, largest = [0.0] * len(p), 0.0
    family = max(family, len(p))
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, p[index] * (family - rank)))
        corrected[index] = largest
    return corrected


def verdicts(
    results: Mapping[tuple[Of, str, str], Interval | Refusal], pre_registered: bool = False
) -> dict[tuple[Of, str, str], Verdict]:
    """Judge differences, of which more is better, in their two families.

    With `pre_registered`, comparisons that cannot be made yet count too: a report on a part of a study then
    finds no more than the whole one would of the same numbers.
    """
    likelihood = {key: result for key, result in results.items() if key[2] == BITS_PER_BYTE}
    answers = {key: result for key, result in results.items() if key[2] != BITS_PER_BYTE}
    judged = {**_in_sequence(likelihood, pre_registered), **_by_holm(answers, pre_registered)}
    return {key: judged[key] for key in results}


def _by_holm(
    results: Mapping[tuple[Of, str, str], Interval | Refusal], pre_registered: bool
) -> dict[tuple[Of, str, str], Verdict]:
    made = {key: result.p for key, result in results.items() if isinstance(result, Interval)}
    family = len(results) if pre_registered else len(made)
    corrected = dict(zip(made, holm(list(made.values()), family), strict=True))
    return {key: _verdict(result, corrected.get(key), family) for key, result in results.items()}


def _in_sequence(
    results: Mapping[tuple[Of, str, str], Interval | Refusal], pre_registered: bool
) -> dict[tuple[Of, str, str], Verdict]:
    """Judge each pair's average first; a task's p is never below the average's.

    So a task is found only where the average is, and both at the pair's share of 5% (Bonferroni: Holm's
    method would not hold the 5% over the tasks of several pairs together).
    """
    first = {key: result for key, result in results.items() if key[1] == AVERAGE}
    made = [key for key, result in first.items() if isinstance(result, Interval)]
    pairs = max(len(first) if pre_registered else len(made), 1)
    judged: dict[tuple[Of, str, str], Verdict] = {}
    for (what, average, metric), result in first.items():
        p = min(1.0, result.p * pairs) if isinstance(result, Interval) else None
        judged[what, average, metric] = _verdict(result, p, pairs)
        gate = 1.0 if p is None else p
        tasks = {key: of for key, of in results.items() if key[0] == what and key[1] != AVERAGE}
        inner = _by_holm(tasks, pre_registered)
        for key, verdict in inner.items():
            if verdict.p is None:
                judged[key] = verdict
            else:
                corrected = max(gate, min(1.0, verdict.p * pairs))
                judged[key] = _verdict(verdict.result, corrected, pairs * verdict.comparisons, gate >= LEVEL)
    return judged


def _verdict(result: Interval | Refusal, p: float | None, comparisons: int, closed: bool = False) -> Verdict:
    if isinstance(result, Refusal) or p is None:
        return Verdict(result, Outcome.NOT_JUDGED)
    outcome = Outcome.NO_DIFFERENCE
    if p < LEVEL:
        outcome = Outcome.BETTER if result.difference > 0 else Outcome.WORSE
    return Verdict(result, outcome, p, comparisons, closed)
