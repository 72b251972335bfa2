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
    (Cook and Weisberg 1982, "Residuals and Influence in Regression"). Groups of fewer than three are left
    out: of two it would not be known which of them it is.
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
            left = sum(squares) - squares[place] + float(((others - others.mean()) ** 2).sum())
            df = sum(dfs) - 1
            error = math.sqrt(left / df * (1 + 1 / len(others)))
            apart = abs(float(value - others.mean()))
            if apart > 1e-12 and (not error or t_p_value(apart / error, {df: 1.0}) * values < LEVEL):
                found.append((place, index))
    return found
