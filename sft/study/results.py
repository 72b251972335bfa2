"""Results of trainings: which are replicates of one configuration, their scores, and what to warn of."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sft.core.params import Count, leaves, parse_value
from sft.evaluation.metrics import MEASURES
from sft.study.intervals import across_tasks, aligned, by_example


@dataclass
class Result:
    """One evaluated adapter: its name, params, answers file's rows, metrics/evaluate.json and train.json."""

    name: str
    params: dict[str, Any]
    answers: list[dict[str, Any]]
    metrics: dict[str, Any]
    trained: dict[str, Any]

    @property
    def seeds(self) -> tuple[int, int]:
        """The seeds that set a replicate apart: which rows, and in what order and from what weights."""
        return self.params["data"]["seed"], self.params["train"]["seed"]


@dataclass
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

    @property
    def name(self) -> str:
        """The params that set it apart, in words."""
        return ", ".join(f"{name} {value}" for name, value in self.apart.items()) or "this configuration"


# Scores by task and measure, then by result's name, as (runs, examples).
Scores = dict[tuple[str, str], dict[str, np.ndarray]]


def scores_of(results: list[Result]) -> Scores:
    """Return the scores of every task by the measures that all results have.

    Raises UserError for results on other examples.
    """
    return {
        (task, measure): aligned({r.name: by_example(r.answers, task, measure) for r in results})
        for task in _tasks(results)
        for measure in MEASURES[task]
        if not _without(results, task, measure)
    }


def averaged(scores: Scores, measure: str) -> dict[str, np.ndarray]:
    """Return the average over the tasks of a measure that all have, by result's name."""
    tasks = [found for (_, name), found in scores.items() if name == measure]
    return {name: across_tasks([found[name] for found in tasks]) for name in tasks[0]}


def grouped(results: list[Result]) -> list[Configuration]:
    """Group results into configurations, named by the params in which they differ."""
    flat = [{name: _at(result.params, name) for name in leaves(result.params)} for result in results]
    names = sorted({name for params in flat for name in params} - {"data.seed", "train.seed"})
    differing = [name for name in names if len({str(params.get(name)) for params in flat}) > 1]
    found: dict[tuple[str, ...], Configuration] = {}
    for result, params in zip(results, flat, strict=True):
        apart = {name: params.get(name) for name in differing}
        size = (
            {"data.size": parse_value(params["data.size"], Count, "data.size")}
            if "data.size" in apart
            else {}
        )
        key = tuple(map(str, (apart | size).values()))  # 100k and 100000 are the same
        found.setdefault(key, Configuration(apart)).add(result)
    return list(found.values())


def warnings(results: list[Result]) -> list[str]:
    """Name what else than the params may have made results differ: devices and packages' versions."""
    lines = []
    for did, stages in (
        ("were trained", [result.trained for result in results]),
        ("answered", [result.metrics for result in results]),
    ):
        devices = {metrics["device"] for metrics in stages}
        if len(devices) > 1:
            lines.append(
                f"**Warning**: the results {did} on different devices: {', '.join(sorted(devices))}."
            )
        versions = [metrics["versions"] for metrics in stages]
        for package in sorted({package for found in versions for package in found}):
            different = sorted({str(found.get(package)) for found in versions})
            if len(different) > 1:
                lines.append(
                    f"**Warning**: the results {did} by different versions of {package}: "
                    f"{', '.join(different)}."
                )
    return [line for warning in lines for line in (warning, "")]


def repeated(configurations: list[Configuration]) -> list[str]:
    """Name the results that are no replicates, because another one has the same params and seeds."""
    return [
        line
        for configuration in configurations
        for result in configuration.repeated
        for line in (f"Not a replicate: {result.name} has the params and seeds of another result.", "")
    ]


def _without(results: list[Result], task: str, measure: str) -> list[str]:
    """Name the results whose answers to a task have no such measure: they were evaluated before it came."""
    return [
        result.name
        for result in results
        if not all(measure in row for row in result.answers if row["task"] == task)
    ]


def _tasks(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(row["task"] for row in results[0].answers))


def left_out(results: list[Result]) -> list[str]:
    """Name the measures that some results lack."""
    return [
        line
        for task in _tasks(results)
        for measure in MEASURES[task]
        if (names := _without(results, task, measure))
        for line in (f"Not compared: {measure} of {task}, missing in {', '.join(names)}. Evaluate anew.", "")
    ]


def _at(params: dict[str, Any], name: str) -> Any:
    value: Any = params
    for part in name.split("."):
        value = value[part]
    return value
