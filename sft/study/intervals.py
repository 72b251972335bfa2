"""Intervals and verdicts on differences of scores, and where the scores' variance comes from.

An adapter's scores are an array (runs, examples), a configuration's (replicates, runs, examples): decoding
runs of one training are not replicates, only trainings with another `data.seed` and `train.seed` are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from sft.core.errors import UserError
from sft.evaluation.summary import summary
from sft.study import student

# With 2 the interval holds the truth in 89% to 98% of simulated studies, by how unlike the two sides are.
FEWEST_REPLICATES = 3
# With 8 a bootstrap interval of skewed scores holds the truth in 92% of simulated studies, with 16 in 94%.
FEWEST_EXAMPLES = 16
LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class Interval:
    """First minus second, in the scores' unit: the 95% interval, p uncorrected, the standard error.

    `student` is what the difference over its standard error is held against: Student's t distributions, as
    degrees of freedom to weights.
    """

    difference: float
    low: float
    high: float
    p: float
    standard_error: float
    student: dict[float, float]


@dataclass(frozen=True)
class Refusal:
    """A difference (first minus second) that nothing can be said about, and why."""

    difference: float
    reason: str


@dataclass(frozen=True)
class Verdict:
    """A comparison in plain words, its p after Holm's correction and the smallest difference in sight."""

    words: str
    p: float | None
    smallest: float | None


def by_example(answers: list[dict[str, Any]], task: str, measure: str) -> dict[str, list[float]]:
    """Return a task's scores by example id, run by run, from the rows of an answers file.

    Raises UserError where the task has no answers or an example lacks a run or has one twice.
    """
    rows = [row for row in answers if row["task"] == task]
    runs = sorted({row["run"] for row in rows})
    scores: dict[str, dict[int, float]] = {}
    for row in rows:
        scores.setdefault(row["id"], {})[row["run"]] = row[measure]
    if not rows or len(rows) != len(runs) * len(scores):
        raise UserError(
            f"answers: task {task!r}: {len(rows):,} answers to {len(scores):,} examples in {len(runs)} "
            "decoding runs; there has to be one answer an example and run. Evaluate again."
        )
    return {example: [of[run] for run in runs] for example, of in scores.items()}


def aligned(members: dict[str, dict[str, list[float]]]) -> dict[str, np.ndarray]:
    """Return each member's scores as (runs, examples), the examples in the first member's order.

    Raises UserError naming two members that do not hold the same examples.
    """
    first, reference = next(iter(members.items()))
    for name, scores in members.items():
        if scores.keys() != reference.keys():
            alone = [[*(reference.keys() - scores.keys())], [*(scores.keys() - reference.keys())]]
            example = min(alone[0] or alone[1])
            raise UserError(
                f"{first} and {name} do not hold the same examples: {len(alone[0]):,} are in {first} only "
                f"and {len(alone[1]):,} in {name} only ({example!r} for one). Evaluate both with the same "
                "evaluate.examples, data.holdout and data.evaluation."
            )
    return {name: np.array([scores[example] for example in reference]).T for name, scores in members.items()}


def across_tasks(tasks: Sequence[np.ndarray]) -> np.ndarray:
    """Average tasks of equally many examples, example by example, to scores of the tasks' average.

    Which example of one task meets which of another does not matter: they are independent, so the variance
    over the averaged examples is that of examples drawn within each task. Raises UserError for unequal tasks.
    """
    if len({scores.shape for scores in tasks}) != 1:
        raise UserError(
            f"The tasks have {[scores.shape[-1] for scores in tasks]} examples: an average over tasks takes "
            "equally many of each. Evaluate with one evaluate.examples."
        )
    return np.mean(tasks, axis=0)


def compare_adapters(
    first: np.ndarray, second: np.ndarray, seed: int, resamples: int = 50_000
) -> Interval | Refusal:
    """Compare two adapters, scores (runs, examples) of the same examples, by a paired bootstrap.

    Scores are averaged over runs, then examples are resampled. The percentile interval, and p which inverts
    it, are widened as Student's t is against the normal, else few examples undercover (Hesterberg 2015,
    "What Teachers Should Know About the Bootstrap"). It speaks of these two trainings, on new examples.
    """
    each = _same_examples(first, second)
    difference, count = float(each.mean()), len(each)
    if count < FEWEST_EXAMPLES:
        return Refusal(difference, f"{count} example{'s' if count > 1 else ''}")
    generator = np.random.default_rng(seed)
    at_once = max(1, 2_000_000 // count)
    means = np.concatenate(
        [
            each[generator.integers(count, size=(min(at_once, resamples - done), count))].mean(axis=1)
            for done in range(0, resamples, at_once)
        ]
    )
    widening = math.sqrt(count / (count - 1))
    tail = NormalDist().cdf(-widening * student.quantile(LEVEL, {count - 1: 1.0}))
    low, high = np.quantile(means, [tail, 1 - tail])
    # One more on either side: no number of resamples shows that p is 0.
    beyond = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0)) + 1
    z = -NormalDist().inv_cdf(min(beyond / (resamples + 1), 0.5))
    p = student.p_value(z / widening, {count - 1: 1.0})
    error = float(means.std()) * widening
    return Interval(difference, float(low), float(high), p, error, {count - 1: 1.0})


def compare_configurations(first: np.ndarray, second: np.ndarray) -> Interval | Refusal:
    """Compare two configurations, scores (replicates, runs, examples) of the same examples, by a t interval.

    It speaks of new trainings on new examples: replicates and examples are crossed random factors, the
    replicates nested in configurations. The difference's variance is that of the replicates' means plus that
    over examples, less the interaction that both hold (Hillis 2014, "A marginal-mean ANOVA approach for
    analyzing multireader multicase radiological imaging data"; a replicate is a reader, an example a case).
    Of Student's t, p is taken with Welch's degrees of freedom and with examples - 1, and averaged by the two
    parts' shares of the variance, after Cochran 1964, "Approximate Significance Levels of the Behrens-Fisher
    Test", who so averages the quantiles.

    Simulated coverage is 93% to 97% from 3 replicates on (fewer are refused), whichever part dominates and
    however unlike the two sides are. It is up to 98% at 3 to 5 replicates where much is interaction or
    replicates' luck is skewed, and where the sides share seeds and thereby luck. An untrained model may stand
    as the same answers repeated: its replicates do not vary.
    """
    each = _same_examples(first, second)
    difference, count = float(each.mean()), len(each)
    replicates = min(len(first), len(second))
    if replicates < FEWEST_REPLICATES:
        return Refusal(difference, f"{replicates} replicate{'s' if replicates > 1 else ''}")
    if count < FEWEST_EXAMPLES:
        return Refusal(difference, f"{count} example{'s' if count > 1 else ''}")
    parts, interaction = [], 0.0
    for scores in (first, second):
        cells, n = scores.mean(axis=1), len(scores)
        means = cells.mean(axis=1, keepdims=True)
        parts.append((float(means.var(ddof=1)) / n, n - 1))
        rest = cells - means - cells.mean(axis=0) + cells.mean()
        interaction += float((rest**2).sum()) / ((n - 1) * (count - 1)) / (n * count)
    replicated = sum(part for part, _ in parts)
    variance = replicated + max(float(each.var(ddof=1)) / count - interaction, 0.0)
    # Not Satterthwaite's degrees of freedom for the sum: replicates that happen to lie close together would
    # add to them just where the variance is underestimated (coverage down to 92%, and with Holm's correction
    # of many comparisons several times too many false positives).
    share = replicated / variance if variance else 0.0
    mixture: dict[float, float] = {count - 1: 1 - share}
    if replicated:
        inverse = sum((part / replicated) ** 2 / df for part, df in parts)
        mixture[1 / inverse] = mixture.get(1 / inverse, 0.0) + share
    error = math.sqrt(variance)
    half = student.quantile(LEVEL, mixture) * error
    p = student.p_value(difference / error, mixture) if variance else float(difference == 0)
    return Interval(difference, difference - half, difference + half, p, error, mixture)


def smallest_difference(interval: Interval, comparisons: int = 1) -> float:
    """Return the true difference that the design finds in 80% of studies, in the scores' unit.

    Two-sided, at 5% shared by `comparisons`, as Holm's first step does. It is a multiple of the standard
    error (Bloom 1995, "Minimum Detectable Effects").
    """
    found = student.quantile(LEVEL / comparisons, interval.student)
    return (found + student.quantile(2 * (1 - POWER), interval.student)) * interval.standard_error


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


def verdicts(comparisons: Sequence[Interval | Refusal], laid_down: bool = False) -> list[Verdict]:
    """Judge the first of each pair by all the comparisons that a report makes, after Holm's correction.

    With `laid_down`, comparisons that cannot be made yet count too: a report on a part of a study then finds
    no more than the whole one would of the same numbers.
    """
    intervals = [result for result in comparisons if isinstance(result, Interval)]
    family = len(comparisons) if laid_down else len(intervals)
    corrected = iter(holm([interval.p for interval in intervals], family))
    found = []
    for result in comparisons:
        if isinstance(result, Refusal):
            found.append(Verdict(f"nothing can be said: {result.reason}", None, None))
            continue
        p, smallest = next(corrected), smallest_difference(result, family)
        if p < LEVEL:
            words = "better" if result.difference > 0 else "worse"
        else:
            words = f"no difference that this design can see (smallest it could: {smallest:.4f})"
        found.append(Verdict(words, p, smallest))
    return found


def decoding_std(scores: np.ndarray) -> float | None:
    """Return the sample standard deviation over runs of scores (runs, examples)' means; null for one run."""
    return summary(scores.mean(axis=1).tolist())["std"]


def variance_shares(scores: np.ndarray) -> dict[str, float] | None:
    """Return decoding's, replicates' and examples' shares of the variance of one run's mean of one replicate.

    Scores are (replicates, runs, examples); null where one of these is 1 or nothing varies. Method of
    moments: a source's variance is the covariance of scores that share this source only. That a training
    does better on some examples than on others counts as replicates'. A part that comes out negative is 0;
    from a handful of replicates their share is a rough one.
    """
    replicates, runs, examples = scores.shape
    if min(scores.shape) < 2:
        return None
    other_run, other_replicate = ~np.eye(runs, dtype=bool), ~np.eye(replicates, dtype=bool)
    # The same seeded noise may meet an example in all replicates: two scores of one run share that too.
    over_replicates = np.cov(scores.mean(axis=2), rowvar=False)
    over_examples = np.cov(scores.reshape(-1, examples)).reshape(replicates, runs, replicates, runs)
    parts = {
        "decoding": scores.var(axis=1, ddof=1).mean() / examples,
        "replicates": over_replicates[other_run].mean(),
        "examples": over_examples[other_replicate[:, None, :, None] & other_run[:, None, :]].mean()
        / examples,
    }
    parts = {name: max(float(part), 0.0) for name, part in parts.items()}
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()} if total else None


def _same_examples(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return first minus second by example, averaged over all else. Raises UserError where counts differ."""
    if first.shape[-1] != second.shape[-1]:
        raise UserError(
            f"{first.shape[-1]:,} examples cannot be compared with {second.shape[-1]:,}. "
            "Evaluate both on the same."
        )
    return first.reshape(-1, first.shape[-1]).mean(axis=0) - second.reshape(-1, second.shape[-1]).mean(axis=0)
