"""The scores of results by task and metric, and the metrics that some of them lack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sft.statistics.scores import aligned
from sft.study.results import Result
from sft.tasks.metric_names import METRICS
from sft.tasks.task import AVERAGE


@dataclass(frozen=True)
class Missing:
    """A metric of a task that some results lack, by their names: they were evaluated before it came."""

    task: str
    metric: str
    results: list[str]


# Scores by task and metric, then by result's name, as (runs, examples).
ByResult = dict[tuple[str, str], dict[str, np.ndarray]]


def scores_of(results: Sequence[Result]) -> ByResult:
    """Return the scores of every task by the metrics that all results have.

    Raises UserError for results on other examples.
    """
    return {
        (task, metric): aligned(task, {result.name: result.scores[task, metric] for result in results})
        for task, metric in _in_order(results)
        if all((task, metric) in result.scores for result in results)
    }


def missing(results: Sequence[Result]) -> list[Missing]:
    """List the metrics that only some results have."""
    return [
        Missing(task, metric, names)
        for task, metric in _in_order(results)
        if (names := [result.name for result in results if (task, metric) not in result.scores])
    ]


def _in_order(results: Sequence[Result]) -> list[tuple[str, str]]:
    """List what any result was scored on, task by task, the metrics as their table has them."""
    known = dict.fromkeys(key for result in results for key in result.scores)
    tasks = list(dict.fromkeys(task for task, _ in known))
    return [(task, metric) for task in tasks for metric in METRICS if (task, metric) in known]


def averageable(scores: Mapping[tuple[str, str], Any]) -> list[str]:
    """List the metrics that all tasks have, which can be averaged over them."""
    tasks = {task for task, _ in scores}
    return [metric for metric in METRICS if tasks and all((task, metric) in scores for task in tasks)]


def parts_of(scores: ByResult, task: str, metric: str) -> list[dict[str, np.ndarray]]:
    """Return what a score is the average of: one task's scores by result, or those of all tasks."""
    if task != AVERAGE:
        return [scores[task, metric]]
    return [of_results for (_, name), of_results in scores.items() if name == metric]


def stacked(parts: Sequence[Mapping[str, np.ndarray]], results: Sequence[Result]) -> list[np.ndarray]:
    """Return scores of each part as (replicates, runs, examples)."""
    return [np.stack([part[result.name] for result in results]) for part in parts]


def replicate_means(scores: ByResult, task: str, metric: str, results: Sequence[Result]) -> np.ndarray:
    """Return each result's mean on a task, or on the tasks' average."""
    parts = stacked(parts_of(scores, task, metric), results)
    return np.mean([part.mean(axis=(1, 2)) for part in parts], axis=0)
