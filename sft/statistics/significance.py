"""Which differences are significant: verdicts on the comparisons of a report, corrected for their number.

What is tested is fixed beforehand, in two families, each kept at 5%:

- the likelihood, in a fixed sequence: bits per byte on the average of the tasks, and only where that is
  significant on each task (Holm). Where there is no average to test (one task only, or a task with too few
  examples), the tasks alone (Holm). Of several pairs that a report compares each gets its share of the 5%;
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

# One ROUGE, named beforehand: fewer tests, so more power for each. ROUGE-L says nearly the same: their
# differences, example by example, are correlated at 0.84 to 0.99 in docs/study. ROUGE-2 and chrF may differ.
TESTED_ROUGE = "rouge1"


class Outcome(Enum):
    """What came of a comparison of first with second."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no significant difference"
    NOT_TESTED = "not tested"  # a task's bits per byte, where the average's do not differ significantly
    NOT_JUDGED = "not judged"  # it cannot be tested


@dataclass(frozen=True)
class Verdict:
    """A comparison's result and outcome, and its p, corrected for the `comparisons` of its family.

    What is not tested or not judged has no p; a refused `result` says what is lacking.
    """

    result: Interval | Refusal
    outcome: Outcome
    p: float | None = None
    comparisons: int = 1

    @property
    def smallest(self) -> float | None:
        """The minimum detectable difference at 80% power; of a task's bits per byte, given the average's.

        None of shares: with the two examples that their variance has added, it would not be right.
        """
        if isinstance(self.result, Refusal) or self.result.share:
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
    """Tell whether differences of the metric are tested: bits per byte, ROUGE-1, and tasks' own metrics.

    Scores of another commit may have a metric that this code does not know; it is not tested.
    """
    known = METRICS.get(metric)
    return known is not None and (metric in (BITS_PER_BYTE, TESTED_ROUGE) or not known.common)


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
    method would not hold the 5% over the tasks of several pairs together). A pair without an average to test
    has its whole share for its tasks: numbers of tasks and examples are known beforehand, so nobody chooses.
    """
    of_pairs: dict[Of, dict[tuple[Of, str, str], Interval | Refusal]] = {}
    for key, result in results.items():
        of_pairs.setdefault(key[0], {})[key] = result
    made = sum(any(isinstance(of, Interval) for of in tests.values()) for tests in of_pairs.values())
    pairs = max(len(of_pairs) if pre_registered else made, 1)
    judged: dict[tuple[Of, str, str], Verdict] = {}
    for tests in of_pairs.values():
        gate = 0.0
        for key, result in tests.items():
            if key[1] == AVERAGE:
                p = min(1.0, result.p * pairs) if isinstance(result, Interval) else None
                judged[key] = _verdict(result, p, pairs)
                gate = p or 0.0
        tasks = {key: result for key, result in tests.items() if key[1] != AVERAGE}
        for key, verdict in _by_holm(tasks, pre_registered).items():
            if verdict.p is None:
                judged[key] = verdict
            elif gate >= LEVEL:
                judged[key] = Verdict(verdict.result, Outcome.NOT_TESTED)
            else:
                corrected = max(gate, min(1.0, verdict.p * pairs))
                judged[key] = _verdict(verdict.result, corrected, pairs * verdict.comparisons)
    return judged


def _verdict(result: Interval | Refusal, p: float | None, comparisons: int) -> Verdict:
    if isinstance(result, Refusal) or p is None:
        return Verdict(result, Outcome.NOT_JUDGED)
    outcome = Outcome.NO_DIFFERENCE
    if p < LEVEL:
        outcome = Outcome.BETTER if result.difference > 0 else Outcome.WORSE
    return Verdict(result, outcome, p, comparisons)
