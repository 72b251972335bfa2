"""Student's t with any degrees of freedom, and mixtures of it, by the standard library alone.

A mixture is a dict of degrees of freedom to weights that add up to 1.
"""

import math
from statistics import NormalDist


def p_value(t: float, mixture: dict[float, float]) -> float:
    """Return the two-sided p-value of |t|: for each df a regularized incomplete beta."""
    return sum(
        weight * _incomplete_beta(df / (df + t * t), df / 2, 0.5) for df, weight in mixture.items() if weight
    )


def quantile(p: float, mixture: dict[float, float]) -> float:
    """Return the t >= 0 whose two-sided p-value is `p`."""
    # The normal's t is too small and p is convex: Newton's steps from there never overshoot.
    t = -NormalDist().inv_cdf(p / 2)
    for _ in range(200):
        step = (p_value(t, mixture) - p) / (2 * _density(t, mixture))
        t += step
        if abs(step) <= 1e-10 * (1 + t):
            break
    return t


def _density(t: float, mixture: dict[float, float]) -> float:
    return sum(
        weight
        * math.exp(
            math.lgamma((df + 1) / 2)
            - math.lgamma(df / 2)
            - math.log(df * math.pi) / 2
            - (df + 1) / 2 * math.log1p(t * t / df)
        )
        for df, weight in mixture.items()
    )


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return I_x(a, b) by its continued fraction (Lentz's method; Press et al., "Numerical Recipes", 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / (1 + factor * d), 1 + factor / c
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * value / a
