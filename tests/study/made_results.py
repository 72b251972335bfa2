"""Results and scores that no training made, and that are known to differ or not to."""

import numpy as np
import pytest

from sft.core.params import Count, parse_value
from sft.statistics.intervals import Interval, Refusal
from sft.study.results import Result
from sft.tasks.metric_names import COMMON

TASKS = ("recipe", "definition", "dialogue", "question")
METRICS_OF = dict.fromkeys(TASKS, COMMON) | {"recipe": [*COMMON, "format"]}
EXAMPLES, RUNS = 60, 2
MEANS = {"nll": 2.0, "chrf": 20.0}  # of the others: 0.2


def result(name, size=100, seed=1, shift=0.0, examples=EXAMPLES, device="cpu", **params):
    """Make a result whose scores are `shift` times a tenth of their mean better."""
    generator = np.random.default_rng([int(parse_value(size, Count, "size")), seed])
    easy = np.random.default_rng(0).normal(0, 0.2, (len(TASKS), EXAMPLES))
    answers = []
    for number, task in enumerate(TASKS):
        for example in range(examples):
            for run in range(RUNS):
                scores = {}
                for metric in COMMON:
                    mean = MEANS.get(metric, 0.2)
                    sign = -1 if metric == "nll" else 1
                    noise = easy[number, example] + generator.normal(0, 0.02)
                    scores[metric] = mean * (1 + noise + sign * 0.1 * shift)
                if task == "recipe":
                    share = 0.5 + 0.4 * shift
                    scores["format"] = float(generator.random() < share)
                answers.append({"task": task, "id": f"{task}{example}", "run": run, "tokens": 9, **scores})
    metrics = {
        "device": device,
        "versions": {"torch": "2"},
        "trained_on": {"rows_seen": 480, "epochs": 480 / parse_value(size, Count, "size")},
    }
    seeds = {"data": {"size": size, "seed": seed}, "train": {"seed": seed, **params}}
    trained = {"device": device, "versions": {"torch": "2"}}
    return Result(name, seeds, answers, metrics, trained)


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


def an_interval(result: Interval | Refusal) -> Interval:
    assert isinstance(result, Interval)
    return result


def simulated(draws: int) -> pytest.MarkDecorator:
    """Parametrize a test with a quarter of the draws of a simulation, and with all of them, marked full.

    A quarter of the draws doubles the standard error of what is counted.
    """
    return pytest.mark.parametrize("draws", [draws // 4, pytest.param(draws, marks=pytest.mark.full)])
