"""A study's results: sizes of the mix beside one another by condition, and which differences are significant.

A condition is all that sets configurations apart but data.size: a budget, say. What is compared is
pre-registered here, before any result: in each condition every size with the smallest, and conditions that
differ in one param at the sizes that both have. Bits per byte on the average of the tasks are the primary
endpoint; `sft.statistics.significance` says what else is tested, and how it is corrected. What cannot be made
for lack of replicates counts in the correction.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from sft.core.errors import UserError
from sft.statistics.significance import TESTED_ROUGE, Verdict, verdicts
from sft.statistics.variance import decoding_std, variance_shares
from sft.study.comparison import configurations_differ, what_is_tested
from sft.study.result_scores import ByResult, averageable, parts_of, replicate_means, scores_of, stacked
from sft.study.results import AMOUNTS, Amount, Configuration, Result, grouped
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS
from sft.tasks.task import AVERAGE

# Metrics of every task that are tested, the primary endpoint's first.
COMPARED_BY = (BITS_PER_BYTE, TESTED_ROUGE)


@dataclass(eq=False)
class Condition:
    """Configurations by size, smallest first, and the params that they share but others do not.

    Of these params, `beside_budget` are those that set it apart from other conditions of its budget.
    """

    apart: dict[str, Any]
    sizes: dict[int, Configuration] = field(default_factory=dict)
    beside_budget: dict[str, Any] = field(default_factory=dict)

    @property
    def results(self) -> list[Result]:
        """The results of its smallest size."""
        return self.sizes[min(self.sizes)].results

    @property
    def budget(self) -> str:
        """How much is trained."""
        return str(self.results[0].params["train"]["budget"])


class Kind(Enum):
    """What the two sides of a pair differ in."""

    SIZE = "size"
    CONDITION = "condition"


@dataclass(frozen=True)
class Pair:
    """What is compared: a size under a condition with the reference's size and condition."""

    condition: Condition
    size: int
    reference: Condition
    reference_size: int

    @property
    def kind(self) -> Kind:
        """Sizes under one condition, or conditions at one size."""
        return Kind.SIZE if self.condition is self.reference else Kind.CONDITION


class Comparison(NamedTuple):
    """One comparison: of what, on which task, by which metric."""

    pair: Pair
    task: str
    metric: str


@dataclass
class Study:
    """Conditions, the scores of every task, and the comparisons with their verdicts."""

    conditions: list[Condition]
    scores: ByResult
    verdicts: dict[Comparison, Verdict]

    @property
    def whole(self) -> str:
        """On what the primary endpoint is: the average of the tasks, or the only task."""
        first, *others = dict.fromkeys(task for task, _ in self.scores)
        return AVERAGE if others else first


def study(results: list[Result]) -> Study:
    """Compare a study's results, in whatever order they come.

    Raises UserError for fewer than two configurations, and for results on other examples or without the
    metrics that a study compares by.
    """
    results = sorted(results, key=lambda result: (result.seeds, result.name))
    for result in results:
        for task, metric in ((task, metric) for task, _ in result.scores for metric in COMPARED_BY):
            if (task, metric) not in result.scores:
                raise UserError(f"{result.name}: its scores have no {metric} of {task}. Evaluate it anew.")
    conditions = conditions_of(grouped(results))
    if sum(len(condition.sizes) for condition in conditions) < 2:
        raise UserError("A study compares two configurations at least: add a size or a condition.")
    scores = scores_of(results)
    return Study(conditions, scores, compare(conditions, scores))


def conditions_of(configurations: list[Configuration]) -> list[Condition]:
    """Group configurations that differ by size alone; first comes whose smallest size reads least."""
    by_params: dict[str, Condition] = {}
    for configuration in configurations:
        apart = {name: value for name, value in configuration.apart.items() if name != "data.size"}
        condition = by_params.setdefault(str(apart), Condition(apart))
        condition.sizes[configuration.results[0].size] = configuration
    conditions = list(by_params.values())
    for condition in conditions:
        condition.sizes = dict(sorted(condition.sizes.items()))
    for condition in conditions:
        same = [other for other in conditions if other.budget == condition.budget]
        condition.beside_budget = {
            name: value
            for name, value in condition.apart.items()
            if name != "train.budget" and any(other.apart[name] != value for other in same)
        }
    return sorted(conditions, key=lambda condition: (_rows_seen(condition), str(condition.apart)))


def _rows_seen(condition: Condition) -> float:
    return min(result.trained["rows_seen"] for result in condition.results)


def compare(conditions: list[Condition], scores: ByResult) -> dict[Comparison, Verdict]:
    """Make the comparisons that a study makes, and judge them."""
    pairs = [pair for condition in conditions for pair in size_pairs(condition)]
    judged = verdicts(
        {
            (pair, task, metric): configurations_differ(
                pair.condition.sizes[pair.size],
                pair.reference.sizes[pair.reference_size],
                metric,
                parts_of(scores, task, metric),
            )
            for pair in [*pairs, *condition_pairs(conditions)]
            for task, metric in what_is_tested(scores)
        },
        pre_registered=True,
    )
    return {Comparison(*key): verdict for key, verdict in judged.items()}


def size_pairs(condition: Condition) -> list[Pair]:
    """Pair every size with the smallest."""
    smallest, *larger = condition.sizes
    return [Pair(condition, size, condition, smallest) for size in larger]


def condition_pairs(conditions: list[Condition]) -> list[Pair]:
    """Pair conditions that differ in one param, the later with the earlier, at each size that both have."""
    return [
        Pair(second, size, first, size)
        for first, second in combinations(conditions, 2)
        if _differing(first, second) == 1
        for size in first.sizes
        if size in second.sizes
    ]


def apart_too_far(conditions: list[Condition]) -> list[tuple[Condition, Condition]]:
    """Pair the conditions that are not compared: they differ in more than one param."""
    return [pair for pair in combinations(conditions, 2) if _differing(*pair) > 1]


def _differing(first: Condition, second: Condition) -> int:
    return sum(first.apart[name] != second.apart[name] for name in first.apart)


def base_scores(results: list[Result]) -> dict[tuple[str, str], float]:
    """Return the base model's means by task and metric, and on average; of the first result that has them."""
    base = next((result.base for result in results if result.base), {})
    means = {key: float(of.values.mean()) for key, of in base.items()}
    for metric in averageable(base):
        means[AVERAGE, metric] = float(np.mean([mean for (_, name), mean in means.items() if name == metric]))
    return means


@dataclass
class Row:
    """A configuration's score on a task by a metric, what was read for it, and how it compares.

    `std_decoding` is the standard deviation over decoding runs, averaged over replicates, as the study
    before had it; `std_replicates` is that of the replicates' means. `verdict` is on the difference from the
    condition's smallest size. What cannot be had is None.
    """

    condition: Condition
    size: int
    task: str
    metric: str
    replicates: int
    mean: float
    std_decoding: float | None
    std_replicates: float | None
    shares: dict[str, float] | None
    trained_on: dict[Amount, float]
    verdict: Verdict | None


def rows_of(study: Study) -> Iterator[Row]:
    """Yield every configuration's score on every task by every metric, and on their average."""
    listed = [*study.scores, *((AVERAGE, metric) for metric in averageable(study.scores))]
    for condition in study.conditions:
        smallest = min(condition.sizes)
        for size, configuration in condition.sizes.items():
            trained = [result.trained for result in configuration.results]
            trained_on = {name: float(np.mean([read[name] for read in trained])) for name in AMOUNTS}
            for task, metric in listed:
                parts = parts_of(study.scores, task, metric)
                of = study.whole if task == AVERAGE else task
                means = replicate_means(study.scores, task, metric, configuration.results)
                deviations = (
                    decoding_std([part[result.name] for part in parts]) for result in configuration.results
                )
                known = [std for std in deviations if std is not None]
                yield Row(
                    condition,
                    size,
                    task,
                    metric,
                    len(means),
                    float(means.mean()),
                    float(np.mean(known)) if known else None,
                    float(means.std(ddof=1)) if len(means) > 1 else None,
                    variance_shares(stacked(parts, configuration.results), METRICS[metric].decoded),
                    trained_on,
                    study.verdicts.get(Comparison(Pair(condition, size, condition, smallest), of, metric)),
                )
