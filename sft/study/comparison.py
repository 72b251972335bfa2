"""A Markdown report on whether results differ: adapters by examples, configurations by replicates."""

from dataclasses import dataclass

import numpy as np

from sft.core.errors import UserError
from sft.evaluation.metrics import LOWER_IS_BETTER
from sft.study.intervals import (
    Interval,
    Refusal,
    Verdict,
    compare_adapters,
    compare_configurations,
    decoding_std,
    variance_shares,
    verdicts,
)
from sft.study.results import Configuration, Result, Scores, grouped, left_out, repeated, scores_of, warnings

SEED = 42  # of the bootstrap


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
    lines = ["# Comparison", "", *warnings(results), *left_out(results), *repeated(configurations)]
    lines += [*_configurations(configurations), *_means(configurations, scores)]
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
    tested = sum(verdict.p is not None for verdict in judged)
    lines += [f"p is corrected for all {tested} comparisons of this report (Holm)."]
    return "\n".join([*lines, ""])


def compared(
    one: Configuration, other: Configuration, task: str, measure: str, scores: Scores, name: str
) -> Comparison:
    """Compare one configuration with the other on a task by a measure; `name` says which these are."""
    found = scores[task, measure]
    result = compare_configurations(_stack(one, found, measure), _stack(other, found, measure))
    for configuration in (one, other):
        for place, seed in enumerate(("data.seed", "train.seed")):
            if len({result.seeds[place] for result in configuration.results}) < len(configuration.results):
                result = Refusal(result.difference, f"replicates of one {seed}")
    return Comparison(name, task, measure, result)


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
