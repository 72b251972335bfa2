"""The Markdown report on results that are compared with the first one."""

from collections.abc import Sequence

from sft.statistics.intervals import Interval
from sft.statistics.significance import Verdict
from sft.statistics.variance import decoding_std, variance_shares
from sft.study.comparison import Comparisons, compare
from sft.study.result_scores import averageable, parts_of, stacked
from sft.study.results import Configuration, Result
from sft.study.wording import FAMILIES, caveats, configuration_name, share_cells, table
from sft.tasks.metric_names import METRICS
from sft.tasks.task import AVERAGE


def report(results: Sequence[Result]) -> str:
    """Compare results with the first one, and write what came of it.

    Raises UserError for fewer than two results, or results that do not hold the same examples.
    """
    comparisons = compare(results)
    first = configuration_name(comparisons.configurations[0])
    lines = ["# Comparison", "", *caveats(results, comparisons.configurations, comparisons.scores)]
    lines += [*_configurations(comparisons.configurations), *_means(comparisons)]
    if claims := comparisons.of_configurations:
        lines += [f"## Configurations, against {first}", ""]
        lines += ["Would new trainings, with other seeds, on new examples, differ?", ""]
        lines += table(
            (configuration_name(of), task, by, verdict) for (of, task, by), verdict in claims.items()
        )
        lines += [""]
    if alone := comparisons.of_adapters:
        lines += [f"## Adapters, against {comparisons.adapters[0].name}", ""]
        lines += ["Would these very adapters differ on new examples? (Not: would new trainings.)", ""]
        lines += table((of.name, task, by, verdict) for (of, task, by), verdict in alone.items())
        lines += [""]
    judged: list[Verdict] = [*claims.values(), *alone.values()]
    tested = sum(isinstance(verdict.result, Interval) for verdict in judged)
    lines += [f"p is corrected for all {tested} comparisons of this report, {FAMILIES}."]
    return "\n".join([*lines, ""])


def _configurations(configurations: Sequence[Configuration]) -> list[str]:
    lines = ["| configuration | replicates | rows seen | epochs |", "|---|---|---|---|"]
    for configuration in configurations:
        trained = [result.trained for result in configuration.results]
        rows = sorted({read["rows_seen"] for read in trained})
        epochs = sorted({round(read["epochs"], 2) for read in trained})
        names = ", ".join(result.name for result in configuration.results)
        lines.append(
            f"| {configuration_name(configuration)} | {names} | {', '.join(f'{n:,}' for n in rows)} "
            f"| {', '.join(map(str, epochs))} |"
        )
    return [*lines, ""]


def _means(comparisons: Comparisons) -> list[str]:
    """List each configuration's means, with decoding's standard deviation as in the study, and the shares."""
    lines = [
        "## Scores",
        "",
        "Mean over examples, decoding runs and replicates; ± is the standard deviation over decoding runs, "
        "averaged over replicates. The shares say where the variance of one run's mean comes from.",
        "",
        "| configuration | task | metric | mean | decoding | replicates | examples |",
        "|---|---|---|---|---|---|---|",
    ]
    scores = comparisons.scores
    listed = [*((AVERAGE, metric) for metric in averageable(scores)), *scores]
    for configuration in comparisons.configurations:
        for task, metric in listed:
            parts = parts_of(scores, task, metric)
            replicates = [[part[result.name] for part in parts] for result in configuration.results]
            known = [std for std in map(decoding_std, replicates) if std is not None]
            spread = f" ± {sum(known) / len(known):.4f}" if known else ""
            whole = stacked(parts, configuration.results)
            mean = sum(float(part.mean()) for part in whole) / len(whole)
            cells = " | ".join(share_cells(variance_shares(whole, METRICS[metric].decoded)))
            lines.append(
                f"| {configuration_name(configuration)} | {task} | {metric} | {mean:.4f}{spread} | {cells} |"
            )
    return [*lines, ""]
