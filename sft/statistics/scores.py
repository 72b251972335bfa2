"""Scores by example, as everything that compares them takes them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ScoresOf:
    """One metric of one task: the examples' names, and `values` (runs, examples) in their order.

    The likelihood has no decoding runs: its values have one row.
    """

    examples: list[str]
    values: np.ndarray


# By task and metric.
Scores = dict[tuple[str, str], ScoresOf]
