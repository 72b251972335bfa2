"""A Markdown report on whether results differ: adapters by examples, configurations by replicates."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sft.command import leaves
from sft.errors import UserError
from sft.measures import LOWER_IS_BETTER, MEASURES
from sft.uncertainty import (
    Interval,
    Refusal,
    Verdict,
    across_tasks,
    aligned,
    by_example,
    compare_adapters,
    compare_configurations,
    decoding_std,
    variance_shares,
    verdicts,
)

SEED = 42  # of the bootstrap


@dataclass
class Result:
    """One evaluated adapter: its name, params, answers file's rows and metrics/evaluate.json."""

    name: str
    params: dict[str, Any]
    answers: list[dict[str, Any]]
    metrics: dict[str, Any]


@dataclass
class Configuration:
    """Results that differ by their seeds alone, and the params that set them apart from the others'."""

    apart: dict[str, Any]
    results: list[Result] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The params that set it apart, in words."""
        return ", ".join(f"{name} {value}" for name, value in self.apart.items()) or "this configuration"


# Scores by task and measure, then by result's name, as (runs, examples).
Scores = dict[tuple[str, str], dict[str, np.ndarray]]


@dataclass
class Comparison:
    """A configuration against the first one, on a task by a measure."""

    name: str
    task: str
    measure: str
    result: Interval | Refusal


def report(results: list[Result]) -> str:
    """Compare every configuration, and every adapter without replicates, with the first one; in Markdown.

    Results whose params differ in data.seed and train.seed only are replicates of one configuration. Raises
    UserError for fewer than two results, or results that do not hold the same examples.
    """
    if len(results) < 2:
        raise UserError("There is nothing to compare: name two results at least.")
    configurations = grouped(results)
    scores = scores_of(results)
    lines = ["# Comparison", "", *warnings(results), *_left_out(results), *_configurations(configurations)]
    lines += _means(configurations, scores)
    first, *others = configurations
    claims = [
        compared(other, first, task, measure, scores, other.name)
        for other in others
        for task, measure in scores
    ]
    # Of configurations with replicates it is not any one adapter that matters, unless there is no other.
    single = [c.results[0] for c in configurations if len(c.results) == 1]
    single = single if others else results
    alone = [
        Comparison(
            result.name,
            task,
            measure,
            compare_adapters(
                _signed(found[result.name], measure), _signed(found[single[0].name], measure), SEED
            ),
        )
        for result in single[1:]
        for (task, measure), found in scores.items()
    ]
    judged = verdicts([claim.result for claim in [*claims, *alone]])
    if claims:
        lines += [f"## Configurations, against {first.name}", ""]
        lines += ["Would new trainings, with other seeds, on new examples, differ?", ""]
        lines += [*table(claims, judged[: len(claims)]), ""]
    if alone:
        lines += [f"## Adapters, against {single[0].name}", ""]
        lines += ["Would these very adapters differ on new examples? (Not: would new trainings.)", ""]
        lines += [*table(alone, judged[len(claims) :]), ""]
    return "\n".join([*lines, corrected_for(judged), ""])


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


def compared(
    one: Configuration, other: Configuration, task: str, measure: str, scores: Scores, name: str
) -> Comparison:
    """Compare one configuration with the other on a task by a measure; `name` says which these are."""
    found = scores[task, measure]
    result = compare_configurations(_stack(one, found, measure), _stack(other, found, measure))
    return Comparison(name, task, measure, result)


def grouped(results: list[Result]) -> list[Configuration]:
    """Group results into configurations, named by the params in which they differ."""
    flat = [{name: _at(result.params, name) for name in leaves(result.params)} for result in results]
    names = sorted({name for params in flat for name in params} - {"data.seed", "train.seed"})
    differing = [name for name in names if len({str(params.get(name)) for params in flat}) > 1]
    found: dict[tuple[str, ...], Configuration] = {}
    for result, params in zip(results, flat, strict=True):
        apart = {name: params.get(name) for name in differing}
        found.setdefault(tuple(map(str, apart.values())), Configuration(apart)).results.append(result)
    return list(found.values())


def warnings(results: list[Result]) -> list[str]:
    """Name what else than the params may have made results differ: devices and packages' versions."""
    lines = []
    devices = {result.metrics["device"] for result in results}
    if len(devices) > 1:
        lines.append(f"**Warning**: the results come from different devices: {', '.join(sorted(devices))}.")
    versions = [result.metrics["versions"] for result in results]
    for package in sorted({package for found in versions for package in found}):
        different = sorted({str(found.get(package)) for found in versions})
        if len(different) > 1:
            lines.append(
                f"**Warning**: the results come from different versions of {package}: {', '.join(different)}."
            )
    return [line for warning in lines for line in (warning, "")]


def _without(results: list[Result], task: str, measure: str) -> list[str]:
    """Name the results whose answers to a task have no such measure: they were evaluated before it came."""
    return [
        result.name
        for result in results
        if not all(measure in row for row in result.answers if row["task"] == task)
    ]


def _tasks(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(row["task"] for row in results[0].answers))


def _left_out(results: list[Result]) -> list[str]:
    return [
        line
        for task in _tasks(results)
        for measure in MEASURES[task]
        if (names := _without(results, task, measure))
        for line in (f"Not compared: {measure} of {task}, missing in {', '.join(names)}. Evaluate anew.", "")
    ]


def _configurations(configurations: list[Configuration]) -> list[str]:
    lines = ["| configuration | replicates | rows seen | epochs |", "|---|---|---|---|"]
    for configuration in configurations:
        trained = [result.metrics["trained_on"] for result in configuration.results]
        rows = sorted({found["rows_seen"] for found in trained})
        epochs = sorted({round(found["epochs"], 2) for found in trained})
        names = ", ".join(result.name for result in configuration.results)
        lines.append(
            f"| {configuration.name} | {names} | {', '.join(f'{n:,}' for n in rows)} "
            f"| {', '.join(map(str, epochs))} |"
        )
    return [*lines, ""]


def _means(configurations: list[Configuration], scores: Scores) -> list[str]:
    """List each configuration's means, with decoding's standard deviation as in the study, and the shares."""
    lines = [
        "## Scores",
        "",
        "Mean over examples, decoding runs and replicates; ± is the standard deviation over decoding runs, "
        "averaged over replicates. The shares say where the variance of one run's mean comes from.",
        "",
        "| configuration | task | measure | mean | decoding | replicates | examples |",
        "|---|---|---|---|---|---|---|",
    ]
    for configuration in configurations:
        for (task, measure), found in scores.items():
            stacked = np.stack([found[result.name] for result in configuration.results])
            deviations = [decoding_std(replicate) for replicate in stacked]
            known = [deviation for deviation in deviations if deviation is not None]
            spread = f" ± {np.mean(known):.4f}" if known else ""
            shares = variance_shares(stacked)
            names = ("decoding", "replicates", "examples")
            cells = " | ".join(f"{shares[name]:.0%}" if shares else "" for name in names)
            lines.append(
                f"| {configuration.name} | {task} | {measure} | {stacked.mean():.4f}{spread} | {cells} |"
            )
    return [*lines, ""]


def table(comparisons: list[Comparison], judged: list[Verdict]) -> list[str]:
    """Make a Markdown table of comparisons and the verdicts on them."""
    lines = [
        "| | task | measure | difference | 95% interval | p, corrected | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for comparison, verdict in zip(comparisons, judged, strict=True):
        difference, interval = in_words(comparison)
        p = "" if verdict.p is None else f"{verdict.p:.3f}"
        lines.append(
            f"| {comparison.name} | {comparison.task} | {comparison.measure} | {difference} "
            f"| {interval} | {p} | {verdict.words} |"
        )
    return lines


def corrected_for(judged: list[Verdict]) -> str:
    """Say how many comparisons the p-values are corrected for."""
    tested = sum(verdict.p is not None for verdict in judged)
    return f"p is corrected for all {tested} comparisons of this report (Holm)."


def in_words(comparison: Comparison) -> tuple[str, str]:
    """Write the difference and its interval as the measure counts, which for some is lower for better."""
    result = comparison.result
    sign = -1 if comparison.measure in LOWER_IS_BETTER else 1
    difference = f"{sign * result.difference:+.4f}"
    if not isinstance(result, Interval):
        return difference, ""
    low, high = sorted((sign * result.low, sign * result.high))
    return difference, f"{low:+.4f} to {high:+.4f}"


def _stack(configuration: Configuration, found: dict[str, np.ndarray], measure: str) -> np.ndarray:
    return _signed(np.stack([found[result.name] for result in configuration.results]), measure)


def _signed(scores: np.ndarray, measure: str) -> np.ndarray:
    """Turn scores so that more is better."""
    return -scores if measure in LOWER_IS_BETTER else scores


def _at(params: dict[str, Any], name: str) -> Any:
    value: Any = params
    for part in name.split("."):
        value = value[part]
    return value
