"""Which differences are significant: verdicts on a report's comparisons, corrected for their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sft.statistics.intervals import LEVEL, Interval, Refusal, t_quantile

POWER = 0.8


class Outcome(Enum):
    """What came of a comparison of first with second."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference"  # that this design can see
    NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Verdict:
    """A comparison's result and outcome, its p after Holm's correction, the smallest difference in sight.

    What is not judged has neither p nor smallest difference; its `result` says what is lacking.
    """

    result: Interval | Refusal
    outcome: Outcome
    p: float | None = None
    smallest: float | None = None

    @property
    def significant(self) -> bool:
        """Whether there is a difference, at 5% for all comparisons of the report together."""
        return self.outcome in (Outcome.BETTER, Outcome.WORSE)


def smallest_difference(interval: Interval, comparisons: int = 1) -> float:
    """Return the true difference that the design finds in 80% of studies, in the scores' unit.

    Two-sided, at 5% shared by `comparisons`, as Holm's first step does. It is a multiple of the standard
    error (Bloom 1995, "Minimum Detectable Effects").
    """
    threshold = t_quantile(LEVEL / comparisons, interval.student)
    return (threshold + t_quantile(2 * (1 - POWER), interval.student)) * interval.standard_error


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


def verdicts(results: Sequence[Interval | Refusal], pre_registered: bool = False) -> list[Verdict]:
    """Judge each difference by all the comparisons that a report makes, after Holm's correction.

    With `pre_registered`, comparisons that cannot be made yet count too: a report on a part of a study then
    finds no more than the whole one would of the same numbers.
    """
    intervals = [result for result in results if isinstance(result, Interval)]
    family = len(results) if pre_registered else len(intervals)
    corrected = iter(holm([interval.p for interval in intervals], family))
    judged = []
    for result in results:
        if isinstance(result, Refusal):
            judged.append(Verdict(result, Outcome.NOT_JUDGED))
            continue
        p, outcome = next(corrected), Outcome.NO_DIFFERENCE
        if p < LEVEL:
            outcome = Outcome.BETTER if result.difference > 0 else Outcome.WORSE
        judged.append(Verdict(result, outcome, p, smallest_difference(result, family)))
    return judged
