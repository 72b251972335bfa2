"""Mixtures of Student's t distributions: degrees of freedom to weights that add up to 1."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

Mixture = dict[float, float]


def t_p_value(t: float, mixture: Mixture) -> float:
    """Return the two-sided p-value of |t|."""
    return float(sum(2 * weight * stdtr(df, -abs(t)) for df, weight in mixture.items()))


def t_quantile(p: float, mixture: Mixture) -> float:
    """Return the t >= 0 whose two-sided p-value is `p`."""
    largest = max(-float(stdtrit(df, p / 2)) for df in mixture)  # the mixture's lies between its members'
    if len(mixture) == 1:
        return largest
    return brentq(lambda t: t_p_value(t, mixture) - p, 0.0, 2 * largest, xtol=1e-12)


def t_quantiles(p: float, first: np.ndarray, second: float, share: np.ndarray) -> np.ndarray:
    """Return the quantiles of many mixtures of two: `first` degrees of freedom by `share`, else `second`."""
    low = np.zeros(len(first))
    high = np.maximum(-stdtrit(first, p / 2), -float(stdtrit(second, p / 2)))
    for _ in range(50):
        middle = (low + high) / 2
        above = 2 * (share * stdtr(first, -middle) + (1 - share) * stdtr(second, -middle)) > p
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high
