"""Intervals of differences of scores, and where the scores' variance comes from.

An adapter's scores are an array (runs, examples), a configuration's (replicates, runs, examples): decoding
runs of one training are not replicates, only trainings with another `data.seed` and `train.seed` are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypedDict, cast

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from sft.core.errors import UserError

# With 2 the interval holds the truth in 89% to 98% of simulated studies, by how unlike the two sides are.
FEWEST_REPLICATES = 3
# With fewer the interval of skewed scores holds the truth too rarely.
FEWEST_EXAMPLES = 16
LEVEL = 0.05


@dataclass(frozen=True)
class Interval:
    """First minus second, in the scores' unit: the 95% interval, p uncorrected, the standard error.

    `student` is what the difference over its standard error is held against: a mixture of Student's t
    distributions, as degrees of freedom to weights that add up to 1.
    """

    difference: float
    low: float
    high: float
    p: float
    standard_error: float
    student: dict[float, float]


class Lack(Enum):
    """What a comparison has too few of; of seeds, where replicates share one."""

    REPLICATES = "replicates"
    EXAMPLES = "examples"
    DATA_SEEDS = "data.seed"
    TRAIN_SEEDS = "train.seed"


@dataclass(frozen=True)
class Refusal:
    """A difference (first minus second) that nothing can be said about, what is lacking, and its count."""

    difference: float
    lack: Lack
    count: int


class Answer(TypedDict):
    """What is read of an answer's row; beside it are its scores, by the metrics' names."""

    task: str
    id: str
    run: int


def by_example(answers: list[Answer], task: str, metric: str) -> dict[str, list[float]]:
    """Return a task's scores by example id, run by run, from the rows of an answers file.

    Raises UserError where the task has no answers or an example lacks a run or has one twice.
    """
    rows = [row for row in answers if row["task"] == task]
    runs = sorted({row["run"] for row in rows})
    scores: dict[str, dict[int, float]] = {}
    for row in rows:
        scores.setdefault(row["id"], {})[row["run"]] = cast(dict[str, float], row)[metric]
    # By each example: one answer doubled and one missing would cancel out in the total.
    complete = all(len(of) == len(runs) for of in scores.values())
    if not rows or not complete or len(rows) != len(runs) * len(scores):
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
                "evaluate.examples, data.holdout and tasks."
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


def compare_adapters(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Interval | Refusal:
    """Compare two adapters on the average of tasks (or on one), paired over the same examples.

    A task's scores are (runs, examples); they are averaged over runs, and Student's t is taken of the
    differences. The variances of tasks add, with Welch's degrees of freedom, so tasks may have different
    numbers of examples. It speaks of these two trainings, on new examples.
    """
    each = [_same_examples(*pair) for pair in zip(first, second, strict=True)]
    difference, count = float(np.mean([task.mean() for task in each])), min(map(len, each))
    if count < FEWEST_EXAMPLES:
        return Refusal(difference, Lack.EXAMPLES, count)
    parts = [(float(task.var(ddof=1)) / len(task) / len(each) ** 2, len(task) - 1) for task in each]
    variance = sum(part for part, _ in parts)
    error = math.sqrt(variance)
    if not error:
        return Interval(difference, difference, difference, float(difference == 0), error, {count - 1: 1.0})
    student = {1 / sum((part / variance) ** 2 / df for part, df in parts): 1.0}
    half = t_quantile(LEVEL, student) * error
    return Interval(
        difference,
        difference - half,
        difference + half,
        t_p_value(difference / error, student),
        error,
        student,
    )


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
        return Refusal(difference, Lack.REPLICATES, replicates)
    if count < FEWEST_EXAMPLES:
        return Refusal(difference, Lack.EXAMPLES, count)
    parts, interaction = [], 0.0
    for scores in (first, second):
        by_replicate, n = scores.mean(axis=1), len(scores)
        means = by_replicate.mean(axis=1, keepdims=True)
        parts.append((float(means.var(ddof=1)) / n, n - 1))
        rest = by_replicate - means - by_replicate.mean(axis=0) + by_replicate.mean()
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
    half = t_quantile(LEVEL, mixture) * error
    p = t_p_value(difference / error, mixture) if variance else float(difference == 0)
    return Interval(difference, difference - half, difference + half, p, error, mixture)


def t_p_value(t: float, mixture: dict[float, float]) -> float:
    """Return the two-sided p-value of |t| in a mixture of Student's t distributions."""
    return float(sum(2 * weight * stdtr(df, -abs(t)) for df, weight in mixture.items()))


def t_quantile(p: float, mixture: dict[float, float]) -> float:
    """Return the t >= 0 whose two-sided p-value is `p` in a mixture of Student's t distributions."""
    largest = max(-float(stdtrit(df, p / 2)) for df in mixture)  # the mixture's lies between its members'
    return brentq(lambda t: t_p_value(t, mixture) - p, 0.0, 2 * largest, xtol=1e-12)


def decoding_std(scores: np.ndarray) -> float | None:
    """Return the sample standard deviation over runs of scores (runs, examples)' means; null for one run."""
    return float(scores.mean(axis=1).std(ddof=1)) if len(scores) > 1 else None


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
