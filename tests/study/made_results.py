"""Results that no training made, and that are known to differ or not to."""

import numpy as np

from sft.core.params import Count, parse_value
from sft.statistics.scores import Scores, ScoresOf
from sft.study.results import Inputs, Result
from sft.tasks.metric_names import BITS_PER_BYTE, COMMON, METRICS
from tests.statistics.made_scores import TASKS

EXAMPLES, RUNS = 60, 2
MEANS = {BITS_PER_BYTE: 2.0, "chrf": 20.0}  # of the others: 0.2
INPUTS = Inputs({"base.parquet": "1"}, {"sft/core": "1", "stages/train.py": "1"})


def result(
    name: str,
    size: int | str | float = 100,
    seed: int = 1,
    shift: float = 0.0,
    examples: int = EXAMPLES,
    device: str = "cpu",
    inputs: Inputs | None = INPUTS,
    **params: object,
) -> Result:
    """Make a result whose scores are `shift` times a tenth of their mean better.

    The tasks have unlike numbers of examples, and more examples have a likelihood than have answers.
    """
    generator = np.random.default_rng([int(parse_value(size, Count, "size")), seed])
    easy = np.random.default_rng(0).normal(0, 0.2, (len(TASKS), EXAMPLES + 50))
    scores: Scores = {}
    for number, task in enumerate(TASKS):
        for metric in COMMON:
            decoded = metric != BITS_PER_BYTE
            names = [f"{task}{place}" for place in range(examples + number + (0 if decoded else 40))]
            sign = -1 if METRICS[metric].lower_is_better else 1
            shape = (RUNS if decoded else 1, len(names))
            noise = easy[number, : len(names)] + generator.normal(0, 0.02, shape)
            mean = MEANS.get(metric, 0.2)
            scores[task, metric] = ScoresOf(names, mean * (1 + noise + sign * 0.1 * shift))
    names = scores["recipe", "rouge1"].examples
    whole = generator.random((RUNS, len(names))) < 0.5 + 0.4 * shift
    scores["recipe", "format"] = ScoresOf(names, whole.astype(float))
    base = {
        key: ScoresOf(of.examples, np.full_like(of.values, MEANS.get(key[1], 0.2)))
        for key, of in scores.items()
    }
    return Result(
        name,
        {"data": {"size": size, "seed": seed}, "train": {"seed": seed, **params}},
        scores,
        {
            "device": device,
            "versions": {"torch": "2"},
            "rows_seen": 480,
            "distinct_rows_seen": 480,
            "tokens_seen": 38_400,
            "epochs": 480 / parse_value(size, Count, "size"),
            "rows_in_mix": parse_value(size, Count, "size"),
        },
        {"device": device, "versions": {"torch": "2"}},
        base,
        inputs,
    )
