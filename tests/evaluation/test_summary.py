"""What a metrics file holds: few, flat means."""

import statistics as standard

import numpy as np
import pytest

from sft.core.params import load, mapping
from sft.evaluation.summary import metrics
from sft.statistics.scores import ScoresOf
from sft.tasks.metric_names import COMMON
from sft.tasks.task import TaskParams, tasks_of
from tests.imports import ROOT
from tests.tiny import task

TASKS = [task("recipe", metrics=("format",)), task("question")]


def scores(rouge1, bits, tasks=TASKS):
    """Make scores: rouge1 by task, run and example, bits per byte by task and example, 0 of the others."""
    made = {}
    for of_task, runs, of_bits in zip(tasks, rouge1, bits, strict=True):
        for name in of_task.metrics:
            values = {"rouge1": runs, "bits_per_byte": [of_bits]}.get(name, np.zeros_like(runs))
            made[of_task.name, name] = ScoresOf([str(n) for n in range(len(values[0]))], np.array(values))
    return made


# Recipe has three examples, question one: a task counts once in the average, whatever its examples.
TWO_RUNS = scores([[[0.1, 0.2, 0.6], [0.2, 0.2, 0.2]], [[0.9], [0.4]]], [[1.0, 2.0, 3.0, 4.0], [1.0]])


def test_means_by_task_and_on_average():
    found = metrics(TWO_RUNS, TASKS)
    assert list(found) == ["average", "recipe", "question"]
    assert found["recipe"] == {"bits_per_byte": 2.5, "rouge1": 0.25, "rouge2": 0, "rougeL": 0, "format": 0}
    assert found["question"] == {"bits_per_byte": 1, "rouge1": 0.65, "rouge2": 0, "rougeL": 0}
    # Run by run: 0.6 and 0.3.
    assert found["average"] == {
        "bits_per_byte": 1.75,
        **{"rouge1": 0.45, "rouge1_std": pytest.approx(standard.stdev([0.6, 0.3]), abs=1e-6)},
        **{"rouge2": 0, "rouge2_std": 0, "rougeL": 0, "rougeL_std": 0},
    }


def test_one_run_has_no_standard_deviation():
    found = metrics(scores([[[0.1, 0.3]], [[0.4]]], [[1.0, 2.0], [3.0]]), TASKS)
    assert found["average"] == {"bits_per_byte": 2.25, "rouge1": 0.3, "rouge2": 0, "rougeL": 0}


def test_few_leaves_with_the_default_s_tasks():
    tasks = tasks_of(mapping(load(ROOT / "params.yaml"), "tasks", TaskParams))
    assert len(tasks) == 4
    found = metrics(scores([np.ones((3, 2))] * 4, [[1.0] * 4] * 4, tasks), tasks)
    assert sum(len(values) for values in found.values()) <= 30
    assert all(isinstance(value, float) for values in found.values() for value in values.values())
    assert set(COMMON) - set(found["question"]) == {"chrf"}
