"""Scores by example, as everything that compares them takes them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sft.core.errors import UserError
from sft.tasks.metric_names import METRICS


@dataclass(frozen=True, eq=False)
class ScoresOf:
    """One metric of one task: the examples' names, and `values` (runs, examples) in their order.

    The likelihood has no decoding runs: its values have one row.
    """

    examples: list[str]
    values: np.ndarray


# By task and metric.
Scores = dict[tuple[str, str], ScoresOf]


def aligned(task: str, members: Mapping[str, ScoresOf]) -> dict[str, np.ndarray]:
    """Return each member's values of a task, the examples in the first member's order.

    Raises UserError naming two members that were not scored on the same examples, or a score that is no
    finite number.
    """
    first, reference = next(iter(members.items()))
    names = set(reference.examples)
    for name, of in members.items():
        if len(wrong := np.argwhere(~np.isfinite(of.values))):
            example = of.examples[wrong[0][1]]
            raise UserError(f"{name}: a score of {example!r} of {task} is not finite. Evaluate it anew.")
        if names != set(of.examples):
            alone = [sorted(names - set(of.examples)), sorted(set(of.examples) - names)]
            raise UserError(
                f"{first} and {name} were not scored on the same examples of {task}: {len(alone[0]):,} are "
                f"in {first} only and {len(alone[1]):,} in {name} only "
                f"({(alone[0] or alone[1])[0]!r} for one). Evaluate both with the same "
                "evaluate.examples, data.holdout and tasks."
            )
    aligned_values = {}
    for name, of in members.items():
        place = {example: index for index, example in enumerate(of.examples)}
        aligned_values[name] = of.values[:, [place[example] for example in reference.examples]]
    return aligned_values


def signed(values: np.ndarray, metric: str) -> np.ndarray:
    """Turn scores so that more is better."""
    return -values if METRICS[metric].lower_is_better else values
