"""The minimum detectable difference of a design, at 80% power."""

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr
from scipy.stats.qmc import Sobol

from sft.statistics.intervals import LEVEL, Interval
from sft.statistics.student import t_quantiles

POWER = 0.8
_STUDIES = 2048  # a power of 2, as Sobol's sequence wants it


def smallest_difference(interval: Interval, comparisons: int = 1) -> float:
    """Return the true difference that a new study of this design finds in 80% of cases, in the scores' unit.

    Two-sided, at 5% shared by `comparisons`, as Holm's first step does: the others are taken to be null. The
    variances are estimates, here and again in the new study; power is 80% on average over both. (The usual
    multiple of the standard error takes the estimate for the truth: with three replicates and 50 comparisons
    the true power is then below 60%.) Not for shares, whose variance depends on the difference itself.
    """
    total = interval.standard_error**2
    # Both sides are taken to vary alike, unless one does not at all: which does more is mostly chance.
    varying = [part for part in interval.replicates if part.variance]
    dfs = tuple(part.df for part in varying)
    shares = (sum(part.variance for part in varying) / total, interval.examples.variance / total)
    key = (*(round(share, 2) for share in shares), round(interval.examples.df, 1))
    return _multiple(*key, dfs, comparisons) * interval.standard_error


@lru_cache(maxsize=4096)
def _multiple(
    replicated: float, of_examples: float, df: float, dfs: tuple[float, ...], comparisons: int
) -> float:
    """Return what the estimated standard error is to be multiplied by.

    `replicated` and `of_examples` are shares of the variance; `dfs` are the degrees of freedom of each side's
    replicates, `df` those of the examples. A made-up study first draws true variances that may have given
    these estimates (an estimate over a chi-square by its degrees of freedom), then its own estimates of them.
    """
    points = iter(Sobol(len(dfs) + 3, seed=1).random(_STUDIES).T)
    true_examples = of_examples / _chi_square(df, next(points))
    true_side = replicated / max(len(dfs), 1) / _chi_square(sum(dfs), next(points))
    estimate = true_examples * _chi_square(df, next(points))
    sides = np.array([true_side * _chi_square(of, next(points)) for of in dfs]).reshape(-1, _STUDIES)
    true_error = np.sqrt(true_examples + len(dfs) * true_side)
    together = sides.sum(axis=0)
    share, welch = together / (together + estimate), np.ones(_STUDIES)
    if replicated and dfs:
        welch = together**2 / (sides**2 / np.array(dfs)[:, None]).sum(axis=0)
    threshold = t_quantiles(LEVEL / comparisons, welch, df, share) * np.sqrt(together + estimate)

    def power(multiple: float) -> float:
        return float(ndtr((multiple - threshold) / true_error).mean())

    high = 4.0
    while power(high) < POWER:
        high *= 2
    return brentq(lambda multiple: power(multiple) - POWER, 0.0, high, xtol=1e-4)


def _chi_square(df: float, points: np.ndarray) -> np.ndarray:
    """Return draws of a chi-square over its degrees of freedom; of none it is 1."""
    return chdtri(df, points) / df if df else np.ones(len(points))
