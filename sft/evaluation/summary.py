"""Means and standard deviations over decoding runs."""

import statistics
from typing import Any


def summary(values: list[float]) -> dict[str, float | None]:
    """Return the mean over runs and their sample standard deviation (null for a single run)."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }


def by_task(scored: list[dict[str, Any]], measures: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Summarise scored answers (dicts with `task`, `run` and the task's measures) by task and averaged.

    A run's score is the mean over its examples; `average` is, run by run, the mean of the tasks' scores,
    for the measures that all tasks have.
    """
    tasks = list(dict.fromkeys(answer["task"] for answer in scored))
    runs = sorted({answer["run"] for answer in scored})
    means = {
        (task, run, measure): statistics.fmean(
            answer[measure] for answer in scored if answer["task"] == task and answer["run"] == run
        )
        for task in tasks
        for run in runs
        for measure in measures[task]
    }
    result: dict[str, dict[str, Any]] = {
        task: {measure: summary([means[task, run, measure] for run in runs]) for measure in measures[task]}
        for task in tasks
    }
    result["average"] = {
        measure: summary([statistics.fmean(means[task, run, measure] for task in tasks) for run in runs])
        for measure in measures[tasks[0]]
        if all(measure in measures[task] for task in tasks)
    }
    return result


def differences(tuned: dict[str, Any], base: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return tuned minus base for the mean of every measure of every task that both have."""
    return {
        task: {
            measure: scores[measure]["mean"] - base[task][measure]["mean"]
            for measure in scores
            if isinstance(scores[measure], dict) and measure in base[task]
        }
        for task, scores in tuned.items()
        if task in base
    }
