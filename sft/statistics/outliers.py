"""Replicates that lie far from the others of their configuration: most likely trainings that failed."""

import math
from collections.abc import Sequence

import numpy as np

from sft.statistics.student import t_p_value

LEVEL = 0.05


def far_out(groups: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Return which of the groups' values lie far out, as places of group and value.

    A value is held against the others of its group by Student's t, with the scatter of all others in all
    groups, and corrected for the number of values (Bonferroni): the outlier test of studentized residuals
    (Cook and Weisberg 1982, "Residuals and Influence in Regression"). It has to lie far by the scatter of its
    own group's others too (corrected for the group's number), as a group may scatter more than the rest.
    Groups of fewer than three are left out: of two it would not be known which of them it is.
    """
    squares = [float(((group - group.mean()) ** 2).sum()) for group in groups]
    dfs = [len(group) - 1 for group in groups]
    values = sum(len(group) for group in groups if len(group) > 2)
    found = []
    for place, group in enumerate(groups):
        if len(group) <= 2:
            continue
        for index, value in enumerate(group):
            others = np.delete(group, index)
            own = float(((others - others.mean()) ** 2).sum())
            apart = abs(float(value - others.mean())) / math.sqrt(1 + 1 / len(others))
            pooled = _p_value(apart, sum(squares) - squares[place] + own, sum(dfs) - 1)
            if pooled * values < LEVEL and _p_value(apart, own, len(others) - 1) * len(group) < LEVEL:
                found.append((place, index))
    return found


def _p_value(apart: float, squares: float, df: int) -> float:
    """Return the p-value of a distance, held against a sum of squares with its degrees of freedom."""
    if apart <= 1e-12:
        return 1.0
    error = math.sqrt(squares / df)
    return t_p_value(apart / error, {df: 1.0}) if error else 0.0
