"""Whether results differ: adapters by examples, configurations by replicates, each against the first one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sft.core.errors import UserError
from sft.statistics.gains import NOTHING
from sft.statistics.intervals import (
    FEWEST_PAIRS,
    Interval,
    Lack,
    Refusal,
    compare_adapters,
    compare_configurations,
)
from sft.statistics.scores import signed
from sft.statistics.significance import Verdict, is_tested, verdicts
from sft.study.result_scores import ByResult, averageable, parts_of, scores_of, stacked
from sft.study.results import Configuration, Result, grouped
from sft.tasks.metric_names import METRICS
from sft.tasks.task import AVERAGE


@dataclass
class Comparisons:
    """Configurations, their scores, and the verdicts by what is compared, task and metric.

    Configurations are compared with the first of `configurations`, adapters with the first of `adapters`:
    those without replicates, or all of them where there is one configuration only.
    """

    configurations: list[Configuration]
    adapters: list[Result]
    scores: ByResult
    of_configurations: dict[tuple[Configuration, str, str], Verdict]
    of_adapters: dict[tuple[Result, str, str], Verdict]


def compare(results: Sequence[Result]) -> Comparisons:
    """Compare every configuration, and every adapter without replicates, with the first one.

    Results whose params differ in data.seed and train.seed only, made from the same data, are replicates of
    one configuration. Raises UserError for fewer than two results, or results that do not hold the same
    examples.
    """
    if len(results) < 2:
        raise UserError("There is nothing to compare: name two results at least.")
    configurations, scores = grouped(results), scores_of(results)
    first, *others = configurations
    # Of configurations with replicates it is not any one adapter that matters, unless there is no other.
    single = [c.results[0] for c in configurations if len(c.results) == 1] if others else list(results)
    tested = what_is_tested(scores)
    of_configurations = {
        (other, task, metric): configurations_differ(other, first, metric, parts_of(scores, task, metric))
        for other in others
        for task, metric in tested
    }
    of_adapters = {
        (result, task, metric): adapters_differ(result, single[0], metric, parts_of(scores, task, metric))
        for result in single[1:]
        for task, metric in tested
    }
    judged = verdicts({**of_configurations, **of_adapters})
    return Comparisons(
        configurations,
        single,
        scores,
        {key: judged[key] for key in of_configurations},
        {key: judged[key] for key in of_adapters},
    )


def what_is_tested(scores: ByResult) -> list[tuple[str, str]]:
    """List what is tested, by task and metric: of each metric the average first, then the tasks.

    A single task has no average, nor has a metric that some tasks lack. Raises UserError where nothing is.
    """
    listed = []
    for metric in filter(is_tested, METRICS):
        tasks = [task for task, name in scores if name == metric]
        common = METRICS[metric].common and metric in averageable(scores)
        average = [AVERAGE] if common and len(tasks) > 1 else []
        listed += [(task, metric) for task in [*average, *tasks]]
    if not listed:
        raise UserError(NOTHING)
    return listed


def configurations_differ(
    one: Configuration, other: Configuration, metric: str, parts: Sequence[Mapping[str, np.ndarray]]
) -> Interval | Refusal:
    """Compare one configuration with the other by their results' scores of a metric; more is better.

    Where both have the same pairs of seeds, and enough of them, they are compared pair by pair. Replicates of
    a configuration that share a seed are refused: they share luck.
    """
    for configuration in (one, other):
        for place, lack in enumerate((Lack.DATA_SEEDS, Lack.TRAIN_SEEDS)):
            seeds = {result.seeds[place] for result in configuration.results}
            if len(seeds) < len(configuration.results):
                means = (
                    np.mean([signed(part, metric).mean() for part in stacked(parts, side.results)])
                    for side in (one, other)
                )
                return Refusal(float(next(means) - next(means)), lack, len(seeds))
    sides = [sorted(side.results, key=lambda result: result.seeds) for side in (one, other)]
    seeds_of = [[result.seeds for result in side] for side in sides]
    paired = seeds_of[0] == seeds_of[1] and len(seeds_of[0]) >= FEWEST_PAIRS
    first, second = ([signed(part, metric) for part in stacked(parts, side)] for side in sides)
    return compare_configurations(first, second, paired, METRICS[metric].share)


def adapters_differ(
    one: Result, other: Result, metric: str, parts: Sequence[Mapping[str, np.ndarray]]
) -> Interval | Refusal:
    """Compare one adapter with the other by their scores of a metric; more is better."""
    first, second = ([signed(part[side.name], metric) for part in parts] for side in (one, other))
    return compare_adapters(first, second, METRICS[metric].share)
