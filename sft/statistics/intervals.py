"""Intervals of differences of scores: of two adapters, and of two configurations of trainings.

Both are given task by task, to compare the tasks' average; one task is an average of one. An adapter's scores
of a task are an array (runs, examples), a configuration's (replicates, runs, examples): decoding runs of one
training are no replicates, only trainings with another `data.seed` and `train.seed` are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sft.core.errors import UserError
from sft.statistics.student import Mixture, t_p_value, t_quantile

# With 2 the interval holds the truth in 89% to 98% of simulated studies, by how unlike the two sides are.
FEWEST_REPLICATES = 3
# From so many on, replicates that share their seeds are compared pair by pair. With fewer, what pairing takes
# in degrees of freedom is more than it brings. Fixed beforehand, so that nobody chooses by the result.
FEWEST_PAIRS = 5
FEWEST_EXAMPLES = 16
LEVEL = 0.05


@dataclass(frozen=True)
class Part:
    """A part of a difference's variance, and the degrees of freedom that it is estimated with."""

    variance: float
    df: float


@dataclass(frozen=True)
class Interval:
    """First minus second, in the scores' unit: the 95% interval, p uncorrected, the standard error.

    `student` is what the difference over its standard error is held against. `replicates` and `examples` are
    the parts of the variance, those of replicates one a side; adapters have none. `share`: of answers that
    score 0 or 1.
    """

    difference: float
    low: float
    high: float
    p: float
    standard_error: float
    student: Mixture
    examples: Part
    replicates: tuple[Part, ...] = ()
    share: bool = False


class Lack(Enum):
    """What a comparison has too few of; of seeds, where replicates share one; or that nothing varies."""

    REPLICATES = "replicates"
    EXAMPLES = "examples"
    DATA_SEEDS = "data.seed"
    TRAIN_SEEDS = "train.seed"
    VARIANCE = "variance"


@dataclass(frozen=True)
class Refusal:
    """A difference (first minus second) that nothing can be said about, what is lacking, and its count."""

    difference: float
    lack: Lack
    count: int


def compare_adapters(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], share: bool = False
) -> Interval | Refusal:
    """Compare two adapters, paired over the same examples, by Student's t of the differences.

    Scores are averaged over runs. The tasks' variances add, so they may have different numbers of examples.
    `share`: of answers that score 0 or 1, see `_with_one_won_by_each`. It speaks of these two trainings, on
    new examples. Refused: fewer than FEWEST_EXAMPLES of a task, and no variance at all.
    """
    each = _differences(first, second)
    difference, count = _mean(each), min(map(len, each))
    if count < FEWEST_EXAMPLES:
        return Refusal(difference, Lack.EXAMPLES, count)
    if share:
        each = [_with_one_won_by_each(task) for task in each]
    examples = _over_examples(each, share)
    return _interval(difference, _mean(each), examples, (), share)


def compare_configurations(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], paired: bool = False, share: bool = False
) -> Interval | Refusal:
    """Compare two configurations on the same examples.

    It speaks of new trainings on new examples: replicates and examples are crossed random factors, the
    replicates nested in configurations. The difference's variance is that of the replicates' means (of the
    tasks' average) plus that over each task's examples, less the interaction that both hold (Hillis 2014, "A
    marginal-mean ANOVA approach for analyzing multireader multicase radiological imaging data"; a replicate
    is a reader, an example a case). Of Student's t, p is taken with the replicates' degrees of freedom
    (Welch's) and with the examples', and averaged by the two parts' shares of the variance, after Cochran
    1964, "Approximate Significance Levels of the Behrens-Fisher Test", who so averages the quantiles.

    `paired`: replicate n of one side and of the other share their seeds; the replicates' part is then that of
    the differences. `share`: of answers that score 0 or 1, see `_with_one_won_by_each`. An untrained model
    may stand as the same answers repeated: its replicates do not vary. Refused: fewer than FEWEST_REPLICATES
    or FEWEST_EXAMPLES, and no variance at all.
    """
    each = _differences(first, second)
    difference, count = _mean(each), min(map(len, each))
    replicates = min(len(first[0]), len(second[0]))
    if replicates < FEWEST_REPLICATES:
        return Refusal(difference, Lack.REPLICATES, replicates)
    if count < FEWEST_EXAMPLES:
        return Refusal(difference, Lack.EXAMPLES, count)
    sides = [[task.mean(axis=1) for task in side] for side in (first, second)]  # (replicates, examples)
    if share:
        for side, won in zip(sides, ((1.0, 0.0), (0.0, 1.0)), strict=True):
            side[:] = [np.hstack([task, np.tile(won, (len(task), 1))]) for task in side]
        each = [one.mean(axis=0) - other.mean(axis=0) for one, other in zip(*sides, strict=True)]
    if paired:
        sides = [[one - other for one, other in zip(*sides, strict=True)]]
    examples = _over_examples(each, share)
    within = sum(_interaction(task) for side in sides for task in side) / len(each) ** 2
    examples = Part(max(examples.variance - within, 0.0), examples.df)
    of_replicates = []
    for side in sides:
        means = np.mean([task.mean(axis=1) for task in side], axis=0)
        of_replicates.append(Part(float(means.var(ddof=1)) / len(means), len(means) - 1))
    return _interval(difference, _mean(each), examples, tuple(of_replicates), share)


def welch(parts: Sequence[Part]) -> float:
    """Return the degrees of freedom of a sum of independent parts (Welch 1947), not all of them 0."""
    total = sum(part.variance for part in parts)
    return 1 / sum((part.variance / total) ** 2 / part.df for part in parts)


def mixture(examples: Part, replicates: Sequence[Part]) -> Mixture:
    """Return what a difference over its standard error is held against.

    Not Satterthwaite's degrees of freedom for the whole sum: replicates that happen to lie close together
    would add to them just where the variance is underestimated.
    """
    replicated = sum(part.variance for part in replicates)
    if not replicated:
        return {examples.df: 1.0}
    share = replicated / (replicated + examples.variance)
    found: Mixture = {examples.df: 1 - share}
    df = welch(replicates)
    found[df] = found.get(df, 0.0) + share
    return found


def _interval(
    difference: float, center: float, examples: Part, replicates: tuple[Part, ...], share: bool
) -> Interval | Refusal:
    error = math.sqrt(examples.variance + sum(part.variance for part in replicates))
    # What floating-point sums leave of a variance of 0.
    if error <= 1e-12 * max(1.0, abs(difference)):
        return Refusal(difference, Lack.VARIANCE, 0)
    student = mixture(examples, replicates)
    half, p = t_quantile(LEVEL, student) * error, t_p_value(center / error, student)
    low, high = center - half, center + half
    if share:
        low, high = max(low, -1.0), min(high, 1.0)
    return Interval(difference, low, high, p, error, student, examples, replicates, share)


def _with_one_won_by_each(differences: np.ndarray) -> np.ndarray:
    """Add two examples to those of a share, one that the first side alone gets right and one the second.

    Bonett and Price 2012, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based
    on Paired Data" (after Agresti and Min 2005): without them 0 of 16 against 0 of 16 would have no variance,
    and be certain. Runs are averaged within an example, which stays one example however many there are.
    Student's t in place of the normal distribution holds 93% at 64 examples too.
    """
    return np.append(differences, (1.0, -1.0))


def _over_examples(each: Sequence[np.ndarray], share: bool) -> Part:
    """Return the part of an average's variance that is the examples', from the differences of each task.

    The degrees of freedom of a task's variance are matched to its sampling variance, which grows with the
    kurtosis of the differences (Shoemaker 2003, "Fixing the F Test for Equal Variances"): scores are skewed,
    and examples - 1 would hold for normal ones. That of a share is known, with two examples added.
    """
    parts = []
    for task in each:
        n = len(task)
        variance = float(task.var(ddof=1))
        excess = 0.0 if share else max(_excess(task), 0.0)
        df = min(n - 1, 2 / (excess / n + 2 / (n - 1)))
        parts.append(Part(variance / n / len(each) ** 2, df))
    total = sum(part.variance for part in parts)
    if not total:
        return Part(0.0, parts[0].df)
    return Part(total, welch(parts))


def _excess(values: np.ndarray) -> float:
    """Return the excess kurtosis, without the bias that it has in few normal values; 0 of equal values."""
    n, squares = len(values), (values - values.mean()) ** 2
    if not squares.mean():
        return 0.0
    plain = float((squares**2).mean() / squares.mean() ** 2) - 3
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * plain + 6)


def _interaction(side: np.ndarray) -> float:
    """Return what a side (replicates, examples) adds to the variance of its mean by replicate and example."""
    replicates, examples = side.shape
    rest = side - side.mean(axis=1, keepdims=True) - side.mean(axis=0) + side.mean()
    return float((rest**2).sum()) / ((replicates - 1) * (examples - 1)) / (replicates * examples)


def _mean(each: Sequence[np.ndarray]) -> float:
    return float(np.mean([task.mean() for task in each]))


def _differences(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return first minus second by task and example, averaged over all else.

    Raises UserError where the numbers of examples differ.
    """
    each = []
    for one, other in zip(first, second, strict=True):
        count = one.shape[-1]
        if count != other.shape[-1]:
            raise UserError(
                f"{count:,} examples cannot be compared with {other.shape[-1]:,}. Evaluate both on the same."
            )
        each.append(one.reshape(-1, count).mean(axis=0) - other.reshape(-1, count).mean(axis=0))
    return each
