"""Whether results differ: adapters by examples, configurations by replicates, each against the first one."""

from dataclasses import dataclass

import numpy as np

from sft.core.errors import UserError
from sft.statistics.intervals import Interval, Lack, Refusal, compare_adapters, compare_configurations
from sft.statistics.significance import Verdict, verdicts
from sft.study.results import Configuration, Result, Scores, grouped, scores_of
from sft.tasks.metric_names import METRICS


@dataclass
class Comparisons:
    """Configurations, their scores, and the verdicts by what is compared, task and metric.

    Configurations are compared with the first of `configurations`, adapters with the first of `adapters`:
    those without replicates, or all of them where there is one configuration only.
    """

    configurations: list[Configuration]
    adapters: list[Result]
    scores: Scores
    of_configurations: dict[tuple[Configuration, str, str], Verdict]
    of_adapters: dict[tuple[Result, str, str], Verdict]


def compare(results: list[Result]) -> Comparisons:
    """Compare every configuration, and every adapter without replicates, with the first one.

    Results whose params differ in data.seed and train.seed only are replicates of one configuration. Raises
    UserError for fewer than two results, or results that do not hold the same examples.
    """
    if len(results) < 2:
        raise UserError("There is nothing to compare: name two results at least.")
    configurations = grouped(results)
    scores = scores_of(results)
    first, *others = configurations
    # Of configurations with replicates it is not any one adapter that matters, unless there is no other.
    single = [c.results[0] for c in configurations if len(c.results) == 1] if others else results
    of_configurations = {
        (other, task, metric): configurations_differ(other, first, metric, of_results)
        for other in others
        for (task, metric), of_results in scores.items()
    }
    of_adapters = {
        (result, task, metric): _adapters_differ(result, single[0], metric, of_results)
        for result in single[1:]
        for (task, metric), of_results in scores.items()
    }
    judged = verdicts([*of_configurations.values(), *of_adapters.values()])
    return Comparisons(
        configurations,
        single,
        scores,
        dict(zip(of_configurations, judged, strict=False)),
        dict(zip(of_adapters, judged[len(of_configurations) :], strict=True)),
    )


def configurations_differ(
    one: Configuration, other: Configuration, metric: str, scores: dict[str, np.ndarray]
) -> Interval | Refusal:
    """Compare one configuration with the other by their results' scores of a metric; more is better.

    Replicates that share a seed are refused: they share luck.
    """
    stacked = (_signed(np.stack([scores[r.name] for r in side.results]), metric) for side in (one, other))
    result = compare_configurations(*stacked)
    for configuration in (one, other):
        for place, lack in enumerate((Lack.DATA_SEEDS, Lack.TRAIN_SEEDS)):
            seeds = {result.seeds[place] for result in configuration.results}
            if len(seeds) < len(configuration.results):
                result = Refusal(result.difference, lack, len(seeds))
    return result


def _adapters_differ(
    one: Result, other: Result, metric: str, scores: dict[str, np.ndarray]
) -> Interval | Refusal:
    return compare_adapters([_signed(scores[one.name], metric)], [_signed(scores[other.name], metric)])


def _signed(scores: np.ndarray, metric: str) -> np.ndarray:
    """Turn scores so that more is better."""
    return -scores if METRICS[metric].lower_is_better else scores


def as_counted(result: Interval | Refusal, metric: str) -> tuple[float, tuple[float, float] | None]:
    """Return the difference and its interval as the metric counts, which for some is lower for better."""
    sign = -1 if METRICS[metric].lower_is_better else 1
    if not isinstance(result, Interval):
        return sign * result.difference, None
    low, high = sorted((sign * result.low, sign * result.high))
    return sign * result.difference, (low, high)
