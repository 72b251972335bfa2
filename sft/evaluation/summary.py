"""What a metrics file holds: means by task and on average, and how much decoding runs vary."""

from collections.abc import Sequence

import numpy as np

from sft.evaluation.scores_file import DIGITS
from sft.statistics.scores import Scores
from sft.tasks.metric_names import METRICS, ROUGE
from sft.tasks.task import AVERAGE, Task

Metrics = dict[str, dict[str, float]]  # by task, or "average", and metric


def metrics(scores: Scores, tasks: Sequence[Task]) -> Metrics:
    """Return the means of the tasks and their average: few and flat, the average first.

    A task's score is its mean over examples and runs. A task counts once in the average, whatever its
    examples, and only metrics that all tasks have are averaged. `rouge1_std` and its like are the sample
    standard deviation of the average over decoding runs; a single run has none.
    """
    means = {
        task.name: {name: scores[task.name, name].values.mean(axis=1) for name in _shown(task)}
        for task in tasks
    }
    shared = [name for name in means[tasks[0].name] if all(name in of_task for of_task in means.values())]
    average: dict[str, float] = {}
    for name in shared:
        by_run = np.mean([of_task[name] for of_task in means.values()], axis=0)
        average[name] = float(by_run.mean())
        if name in ROUGE and len(by_run) > 1:
            average[f"{name}_std"] = float(by_run.std(ddof=1))
    by_task = {
        task: {name: float(by_run.mean()) for name, by_run in of_task.items()}
        for task, of_task in means.items()
    }
    return {
        name: {metric: round(float(value), DIGITS) for metric, value in values.items()}
        for name, values in {AVERAGE: average, **by_task}.items()
    }


def _shown(task: Task) -> list[str]:
    return [name for name in task.metrics if METRICS[name].headline]
