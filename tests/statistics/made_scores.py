"""Scores that are known to differ or not to: made up, or resampled from the real ones of docs/study."""

import gzip
import json
from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from sft.statistics.intervals import Interval, Refusal
from tests.imports import ROOT

TASKS = ("recipe", "definition", "dialogue", "question")
# Trainings of docs/study, of one epoch each and of 60 steps: real answers, on 200 examples of each task.
EPOCH = tuple(f"1-epoch-batch_size-128-learning_rate-0.0005-{size}" for size in ("100k", "200k"))
STEPS = "60-steps-batch_size-8-warmup_steps-5-100k"


def configuration(rng, shape, common, replicate, example, interaction, decoding):
    """Scores of one configuration whose true mean over replicates and examples is 0; sizes are std.

    `common` are the examples' difficulties, which all configurations share.
    """
    replicates, _, examples = shape
    return (
        common
        + example * rng.standard_normal(examples)
        + replicate * rng.standard_normal((replicates, 1, 1))
        + interaction * rng.standard_normal((replicates, 1, examples))
        + decoding * rng.standard_normal(shape)
    )


@cache
def real(run: str) -> dict[tuple[str, str], np.ndarray]:
    """Read a training's scores, averaged over its decoding runs: by task and metric, by example."""
    path = ROOT / "docs" / "study" / "runs" / run / "scores.jsonl.gz"
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        row = json.loads(line)
        for metric in ("rouge1", "nll"):
            found[row["task"], metric][row["id"]].append(row[metric])
    return {key: np.array([np.mean(of[name]) for name in sorted(of)]) for key, of in found.items()}


def null_differences(run: str, other: str, metric: str) -> dict[str, np.ndarray]:
    """Return two trainings' real differences by task and example, moved so that none is better."""
    differences = {task: real(run)[task, metric] - real(other)[task, metric] for task in TASKS}
    return {task: of - of.mean() for task, of in differences.items()}


def an_interval(result: Interval | Refusal) -> Interval:
    assert isinstance(result, Interval)
    return result


def simulated(draws: int) -> pytest.MarkDecorator:
    """Parametrize a test with a quarter of the draws of a simulation, and with all of them, marked full.

    A quarter of the draws doubles the standard error of what is counted.
    """
    return pytest.mark.parametrize("draws", [draws // 4, pytest.param(draws, marks=pytest.mark.full)])
