"""Means and standard deviations over decoding runs, and what a metrics file holds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

AVERAGE = "average"


class Spread(TypedDict):
    """A mean over runs and the sample standard deviation, None for a single run."""

    mean: float
    std: float | None


Scores = dict[str, Spread]  # by metric
Differences = dict[str, dict[str, float]]  # by task and metric


class Speed(TypedDict):
    """Tokens generated a second, reading the prompts included, and the share of the device's peak."""

    tokens_per_second: float
    model_flop_utilisation: float | None


class BaseModel(TypedDict):
    """The base model as params name it, and the commit or digest that this was."""

    reference: str
    resolved: str | None


class TrainedOn(TypedDict):
    """What the adapter has read, repeats in `rows_seen` and `tokens_seen` included."""

    rows_seen: int
    distinct_rows_seen: int
    tokens_seen: int
    epochs: float


@dataclass
class TaskSummary:
    """A task's scores, and of its answers the share that ended by themselves and their mean length."""

    scores: Scores
    examples: int
    finished: float
    mean_tokens: float

    @classmethod
    def of(cls, scores: Scores, answers: list[dict[str, Any]], examples: int) -> "TaskSummary":
        """Summarise a task's scored answers."""
        finished = sum(row["finished"] for row in answers) / len(answers)
        return cls(scores, examples, finished, sum(row["tokens"] for row in answers) / len(answers))

    def as_json(self) -> dict[str, Any]:
        """Return the scores beside the other figures."""
        return self.scores | {
            "examples": self.examples,
            "finished": self.finished,
            "mean_tokens": self.mean_tokens,
        }


@dataclass
class Evaluation:
    """One model's scores on the tasks, the differences from the base model's, and how they came about."""

    tasks: dict[str, TaskSummary]
    average: Scores
    difference: Differences | None
    runs: int
    answers: int
    tokens_generated: int
    seconds: dict[str, float]
    overall_speed: Speed
    speed: dict[str, Speed]
    peak_memory_gib: float
    device: str
    base_model: BaseModel
    versions: dict[str, str]
    trained_on: TrainedOn | None

    def as_json(self) -> dict[str, Any]:
        """Return what a metrics file holds: the tasks by name, the average, then the rest."""
        return {
            **{name: task.as_json() for name, task in self.tasks.items()},
            AVERAGE: self.average,
            **({"difference": self.difference} if self.difference is not None else {}),
            "runs": self.runs,
            "answers": self.answers,
            "tokens_generated": self.tokens_generated,
            "seconds": self.seconds,
            **self.overall_speed,
            "speed": self.speed,
            "peak_memory_gib": self.peak_memory_gib,
            "device": self.device,
            "base_model": self.base_model,
            "versions": self.versions,
            **({"trained_on": self.trained_on} if self.trained_on is not None else {}),
        }


def summary(values: Sequence[float]) -> Spread:
    """Return the mean over runs and their sample standard deviation (None for a single run)."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }


def by_task(scored: list[dict[str, Any]], metrics: Mapping[str, Sequence[str]]) -> dict[str, Scores]:
    """Summarise scored answers (dicts with `task`, `run` and the task's metrics) by task and averaged.

    A run's score is the mean over its examples; `average` is, run by run, the mean of the tasks' scores,
    for the metrics that all tasks have.
    """
    tasks = list(dict.fromkeys(answer["task"] for answer in scored))
    runs = sorted({answer["run"] for answer in scored})
    means = {
        (task, run, metric): statistics.fmean(
            answer[metric] for answer in scored if answer["task"] == task and answer["run"] == run
        )
        for task in tasks
        for run in runs
        for metric in metrics[task]
    }
    result = {
        task: {metric: summary([means[task, run, metric] for run in runs]) for metric in metrics[task]}
        for task in tasks
    }
    result[AVERAGE] = {
        metric: summary([statistics.fmean(means[task, run, metric] for task in tasks) for run in runs])
        for metric in metrics[tasks[0]]
        if all(metric in metrics[task] for task in tasks)
    }
    return result


def differences(tuned: Mapping[str, Scores], base: Mapping[str, Any]) -> Differences:
    """Return tuned minus base for the mean of every metric of every task that both have."""
    return {
        task: {
            metric: scores[metric]["mean"] - base[task][metric]["mean"]
            for metric in scores
            if metric in base[task]
        }
        for task, scores in tuned.items()
        if task in base
    }
