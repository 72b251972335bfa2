"""Results of trainings: which are replicates of one configuration, their scores, and what they lack."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypedDict, cast

import numpy as np

from sft.core.params import Count, leaves, parse_value
from sft.evaluation.summary import Differences, Spread, TrainedOn
from sft.statistics.intervals import Answer, across_tasks, aligned, by_example
from sft.tasks.metric_names import METRICS

# What a training has read, by TrainedOn's names.
Amount = Literal["rows_seen", "distinct_rows_seen", "epochs", "tokens_seen"]
AMOUNTS: tuple[Amount, ...] = ("rows_seen", "distinct_rows_seen", "epochs", "tokens_seen")


class Metrics(TypedDict):
    """What is read of any stage's metrics: the device that it ran on, and the packages' versions."""

    device: str
    versions: dict[str, str]


class EvaluationMetrics(Metrics):
    """What is read of an evaluation's metrics; beside it are each task's scores, by the task's name."""

    trained_on: TrainedOn
    difference: Differences


@dataclass(eq=False)
class Result:
    """One evaluated adapter: its name, params, answers' rows, and the metrics of evaluation and training."""

    name: str
    params: dict[str, Any]
    answers: list[Answer]
    metrics: EvaluationMetrics
    trained: Metrics

    @property
    def seeds(self) -> tuple[int, int]:
        """The seeds that set a replicate apart: which rows, and in what order and from what weights."""
        return self.params["data"]["seed"], self.params["train"]["seed"]

    @property
    def size(self) -> int:
        """The mix's rows."""
        return parse_value(self.params["data"]["size"], Count, "data.size")

    @property
    def tasks(self) -> list[str]:
        """The tasks that it has answers to, in their order."""
        return list(dict.fromkeys(row["task"] for row in self.answers))

    def spread(self, task: str, metric: str) -> Spread:
        """The evaluation's own mean over decoding runs, of a task or of the average of the tasks."""
        return cast(dict[str, dict[str, Spread]], self.metrics)[task][metric]


@dataclass(eq=False)
class Configuration:
    """Results that differ by their seeds alone, and the params that set them apart from the others'.

    Of results with the same seeds too, the first stands for all: they are no replicates.
    """

    apart: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    repeated: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Take a result in."""
        known = result.seeds in [other.seeds for other in self.results]
        (self.repeated if known else self.results).append(result)


class Stage(Enum):
    """What a result went through on some machine."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True)
class Mismatch:
    """A difference between results that is none of params: their devices, or versions of a package."""

    stage: Stage
    package: str | None  # None: the device
    values: list[str]


@dataclass(frozen=True)
class Missing:
    """A metric of a task that some results lack, by their names: they were evaluated before it came."""

    task: str
    metric: str
    results: list[str]


# Scores by task and metric, then by result's name, as (runs, examples).
Scores = dict[tuple[str, str], dict[str, np.ndarray]]


def scores_of(results: list[Result]) -> Scores:
    """Return the scores of every task by the metrics that all results have.

    Raises UserError for results on other examples.
    """
    lacking = {(gap.task, gap.metric) for gap in missing(results)}
    return {
        (task, metric): aligned({r.name: by_example(r.answers, task, metric) for r in results})
        for task in results[0].tasks
        for metric in _metrics(results, task)
        if (task, metric) not in lacking
    }


def missing(results: list[Result]) -> list[Missing]:
    """List the metrics that only some results have."""
    return [
        Missing(task, metric, names)
        for task in results[0].tasks
        for metric in _metrics(results, task)
        if (names := [result.name for result in results if not _has(result, task, metric)])
    ]


def _metrics(results: list[Result], task: str) -> list[str]:
    """List a task's metrics: the common ones, and those that any answer to it was scored by."""
    columns = {name for result in results for row in result.answers if row["task"] == task for name in row}
    return [name for name, metric in METRICS.items() if metric.common or name in columns]


def _has(result: Result, task: str, metric: str) -> bool:
    return all(metric in row for row in result.answers if row["task"] == task)


def averaged(scores: Scores, metric: str) -> dict[str, np.ndarray]:
    """Return the average over the tasks of a metric that all have, by result's name."""
    by_task = [of_results for (_, name), of_results in scores.items() if name == metric]
    return {name: across_tasks([of_results[name] for of_results in by_task]) for name in by_task[0]}


def grouped(results: list[Result]) -> list[Configuration]:
    """Group results into configurations, set apart by the params in which they differ."""
    flat = [{name: _at(result.params, name) for name in leaves(result.params)} for result in results]
    names = sorted({name for params in flat for name in params} - {"data.seed", "train.seed"})
    differing = [name for name in names if len({str(params.get(name)) for params in flat}) > 1]
    configurations: dict[tuple[str, ...], Configuration] = {}
    for result, params in zip(results, flat, strict=True):
        apart = {name: params.get(name) for name in differing}
        size = {"data.size": result.size} if "data.size" in apart else {}
        key = tuple(map(str, (apart | size).values()))  # 100k and 100000 are the same
        configurations.setdefault(key, Configuration(apart)).add(result)
    return list(configurations.values())


def mismatches(results: list[Result]) -> list[Mismatch]:
    """List what else than the params may have made results differ: devices and packages' versions."""
    listed = []
    of_stages: dict[Stage, Sequence[Metrics]] = {
        Stage.TRAINING: [result.trained for result in results],
        Stage.EVALUATION: [result.metrics for result in results],
    }
    for stage, metrics in of_stages.items():
        listed.append(Mismatch(stage, None, sorted({of_one["device"] for of_one in metrics})))
        versions = [of_one["versions"] for of_one in metrics]
        for package in sorted({package for of_one in versions for package in of_one}):
            different = sorted({str(of_one.get(package)) for of_one in versions})
            listed.append(Mismatch(stage, package, different))
    return [mismatch for mismatch in listed if len(mismatch.values) > 1]


def _at(params: dict[str, Any], name: str) -> Any:
    value: Any = params
    for part in name.split("."):
        value = value[part]
    return value
