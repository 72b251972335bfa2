"""A study's results: sizes of the mix beside one another by regime, and which differences can be told.

A regime is all that sets configurations apart but data.size: a budget, say. What is compared is laid down
here, before any result: in each regime every size with the smallest, and regimes that differ in one param
at the sizes that both have; on each task and on their average; by MEASURES. All of it is one family for
Holm's correction, what cannot be made for lack of replicates included.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from sft.core.errors import UserError
from sft.core.params import Count, parse_value
from sft.evaluation.metrics import COMMON, LOWER_IS_BETTER
from sft.study.comparison import Comparison, compared
from sft.study.intervals import Interval, Verdict, decoding_std, variance_shares, verdicts
from sft.study.results import Configuration, Result, Scores, averaged, grouped, scores_of

# One that the study before reported, and the one without decoding noise. More of them would take more
# correcting, and say much the same.
MEASURES = ("rougeL", "nll")
AVERAGE = "average"


@dataclass
class Regime:
    """Configurations by size, smallest first, and the params that they share but others do not."""

    apart: dict[str, Any]
    sizes: dict[int, Configuration]
    name: str = ""


@dataclass
class Study:
    """Regimes, the scores of every task and of the average, and the comparisons with their verdicts."""

    regimes: list[Regime]
    scores: Scores
    comparisons: list[Comparison]
    judged: list[Verdict]

    def find(self, name: str, task: str, measure: str) -> tuple[Comparison, Verdict]:
        """Return a comparison and the verdict on it."""
        for comparison, verdict in zip(self.comparisons, self.judged, strict=True):
            if (comparison.name, comparison.task, comparison.measure) == (name, task, measure):
                return comparison, verdict
        raise KeyError(name)


def study(results: list[Result]) -> Study:
    """Compare a study's results, in whatever order they come.

    Raises UserError for fewer than two configurations, and for results on other examples or without MEASURES.
    """
    results = sorted(results, key=lambda result: (result.seeds, result.name))
    for result in results:
        for row in result.answers:
            if lacking := [measure for measure in MEASURES if measure not in row]:
                raise UserError(f"{result.name}: its answers have no {lacking[0]}. Evaluate it anew.")
    regimes = regimes_of(grouped(results))
    if sum(len(regime.sizes) for regime in regimes) < 2:
        raise UserError("A study compares two configurations at least: add a size or a regime.")
    scores = scores_of(results)
    tasks = {task for task, _ in scores}
    for measure in COMMON:
        if all((task, measure) in scores for task in tasks):
            scores[AVERAGE, measure] = averaged(scores, measure)
    comparisons = compare(regimes, scores)
    judged = verdicts([comparison.result for comparison in comparisons], laid_down=True)
    return Study(regimes, scores, comparisons, judged)


def regimes_of(configurations: list[Configuration]) -> list[Regime]:
    """Group configurations that differ by size alone: first the regimes whose smallest size reads least."""
    found: dict[str, Regime] = {}
    for configuration in configurations:
        apart = {name: value for name, value in configuration.apart.items() if name != "data.size"}
        size = parse_value(configuration.results[0].params["data"]["size"], Count, "data.size")
        found.setdefault(str(apart), Regime(apart, {})).sizes[size] = configuration
    regimes = list(found.values())
    for regime in regimes:
        regime.sizes = dict(sorted(regime.sizes.items()))
        regime.name = _name(regime, regimes)
    return sorted(regimes, key=lambda regime: (_rows_seen(regime), regime.name))


def _rows_seen(regime: Regime) -> float:
    smallest = regime.sizes[min(regime.sizes)]
    return min(result.metrics["trained_on"]["rows_seen"] for result in smallest.results)


def _name(regime: Regime, regimes: list[Regime]) -> str:
    """Name a regime by its budget, and by what else sets it apart from others of that budget."""
    budget = _budget(regime)
    same = [other for other in regimes if _budget(other) == budget]
    words = [budget]
    for name, value in regime.apart.items():
        if name != "train.budget" and any(other.apart[name] != value for other in same):
            words.append(f"{name.rpartition('.')[2]} {value}")
    return ", ".join(words)


def _budget(regime: Regime) -> str:
    return str(regime.sizes[min(regime.sizes)].results[0].params["train"]["budget"])


def compare(regimes: list[Regime], scores: Scores) -> list[Comparison]:
    """Make the comparisons that a study makes."""
    pairs = [(one, other, name) for regime in regimes for one, other, name in size_pairs(regime)]
    pairs += regime_pairs(regimes)
    tasks = dict.fromkeys(task for task, _ in scores)
    return [
        compared(one, other, task, measure, scores, name)
        for one, other, name in pairs
        for measure in MEASURES
        for task in tasks
    ]


def size_pairs(regime: Regime) -> list[tuple[Configuration, Configuration, str]]:
    """Pair every size with the smallest."""
    (smallest, first), *larger = regime.sizes.items()
    return [(other, first, pair_name(regime, size, smallest)) for size, other in larger]


def pair_name(regime: Regime, size: int, smallest: int) -> str:
    """Name the comparison of two sizes."""
    return f"{regime.name}: {rows(size)} against {rows(smallest)}"


def regime_pairs(regimes: list[Regime]) -> list[tuple[Configuration, Configuration, str]]:
    """Pair regimes that differ in one param, the later with the earlier, at each size that both have."""
    return [
        (second.sizes[size], first.sizes[size], f"{rows(size)}: {second.name} against {first.name}")
        for first, second in combinations(regimes, 2)
        if sum(first.apart[name] != second.apart[name] for name in first.apart) == 1
        for size in first.sizes
        if size in second.sizes
    ]


def apart_too_far(regimes: list[Regime]) -> list[tuple[Regime, Regime]]:
    """Pair the regimes that are not compared: they differ in more than one param."""
    return [
        (first, second)
        for first, second in combinations(regimes, 2)
        if sum(first.apart[name] != second.apart[name] for name in first.apart) > 1
    ]


def rows(size: int) -> str:
    """Write a number of rows as people do: 100k."""
    return f"{size // 1000}k" if size % 1000 == 0 else f"{size:,}"


def base_scores(results: list[Result]) -> dict[tuple[str, str], float]:
    """Return the base model's means by task and measure, from the first result's differences."""
    metrics = results[0].metrics
    return {
        (task, measure): metrics[task][measure]["mean"] - difference
        for task, differences in metrics["difference"].items()
        for measure, difference in differences.items()
    }


def table_rows(found: Study) -> list[dict[str, Any]]:
    """List every configuration's score on every task by every measure, with what it is compared with.

    `std_decoding` is the standard deviation over decoding runs, averaged over replicates, as the study
    before had it; `std_replicates` is that of the replicates' means. `difference`, `low`, `high`, `p` and
    `verdict` are against the regime's smallest size; `p` is corrected.
    """
    return [
        _table_row(found, regime, size, task, measure)
        for regime in found.regimes
        for size in regime.sizes
        for task, measure in found.scores
    ]


def _table_row(found: Study, regime: Regime, size: int, task: str, measure: str) -> dict[str, Any]:
    results = regime.sizes[size].results
    stacked = np.stack([found.scores[task, measure][result.name] for result in results])
    means = stacked.mean(axis=(1, 2))
    known = [std for std in map(decoding_std, stacked) if std is not None]
    shares = variance_shares(stacked) or {}
    trained = [result.metrics["trained_on"] for result in results]
    row: dict[str, Any] = {
        "regime": regime.name,
        "data.size": size,
        "task": task,
        "measure": measure,
        "replicates": len(results),
        "mean": float(means.mean()),
        "std_decoding": float(np.mean(known)) if known else "",
        "std_replicates": float(means.std(ddof=1)) if len(means) > 1 else "",
        **{f"share_{name}": shares.get(name, "") for name in ("decoding", "replicates", "examples")},
        "rows_seen": round(float(np.mean([entry["rows_seen"] for entry in trained]))),
        "distinct_rows_seen": round(float(np.mean([entry["distinct_rows_seen"] for entry in trained]))),
        "epochs": float(np.mean([entry["epochs"] for entry in trained])),
        "tokens_seen": round(float(np.mean([entry["tokens_seen"] for entry in trained]))),
        **dict.fromkeys(("difference", "low", "high", "p", "verdict"), ""),
    }
    smallest = min(regime.sizes)
    if measure in MEASURES and size != smallest:
        comparison, verdict = found.find(pair_name(regime, size, smallest), task, measure)
        sign = -1 if measure in LOWER_IS_BETTER else 1
        row["difference"], row["verdict"] = sign * comparison.result.difference, verdict.words
        if isinstance(comparison.result, Interval):
            row["low"], row["high"] = sorted((sign * comparison.result.low, sign * comparison.result.high))
            row["p"] = verdict.p
    return row
