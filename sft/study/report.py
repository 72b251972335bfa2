"""A study's report in words and tables: the conclusion is computed from the numbers, not written by hand."""

from typing import Any

from sft.statistics.gains import as_counted
from sft.study.analysis import COMPARED_BY, Condition, Row, Study, apart_too_far
from sft.study.conclusion import conclusion
from sft.study.results import Result
from sft.study.wording import (
    FAMILIES,
    PARTS,
    caveats,
    condition_name,
    pair_name,
    rows_words,
    share_cells,
    table,
    verdict_words,
)
from sft.tasks.metric_names import METRICS, ROUGE
from sft.tasks.task import AVERAGE

# What a reader wants to know of every condition, whether conditions differ in it or not.
MAIN = {"train": ("budget", "batch_size", "learning_rate"), "evaluate": ("examples", "runs")}
STD_HEADERS = {"rouge1": "std R1", "rouge2": "std R2", "rougeL": "std RL"}  # tables have no room for labels


def markdown(
    study: Study,
    results: list[Result],
    rows: list[Row],
    base: dict[tuple[str, str], float],
    figure: str,
    numbers: str,
) -> str:
    """Write the report; `base` are the base model's scores.

    `figure` and `numbers` are where the curves and the table of all `rows` lie, seen from the report.
    """
    configurations = [c for condition in study.conditions for c in condition.sizes.values()]
    lines = ["# Does more data help?", "", *caveats(results, configurations, study.scores)]
    lines += [conclusion(study, results), "", f"![scores by size]({figure})", ""]
    lines += [
        "A bar is the 95% interval of the difference from the smallest size of its condition, uncorrected.",
        "",
    ]
    lines += _conditions(study)
    for condition in study.conditions:
        lines += [f"## {condition_name(condition)}", "", *_scores(condition, rows, base), ""]
    lines += ["Averages of the tasks; mean over replicates, decoding runs and examples. std: over decoding"]
    lines += [f"runs, averaged over replicates. [{numbers}]({numbers}) has all tasks and metrics.", ""]
    lines += ["## What was compared", ""]
    lines += [f"Would new trainings, with other seeds, on new examples, differ? {_directions()}", ""]
    lines += table((pair_name(of.pair), of.task, of.metric, study.verdicts[of]) for of in study.verdicts)
    family = len(study.verdicts)
    lines += ["", f"p is corrected for all {family} comparisons that the study makes, {FAMILIES}.", ""]
    if pairs := apart_too_far(study.conditions):
        names = "; ".join(f"{condition_name(first)} and {condition_name(second)}" for first, second in pairs)
        lines += [f"Beside one another only, for they differ in more than one param: {names}.", ""]
    lines += ["## Where a score's variance comes from", "", *_variance(rows), ""]
    return "\n".join(lines)


def table_rows(rows: list[Row]) -> list[dict[str, Any]]:
    """Make the rows of a table to be published; what is not known is empty.

    `difference`, `low`, `high`, `p` (corrected) and `verdict` are against the condition's smallest size.
    """
    return [_table_row(row) for row in rows]


def _table_row(row: Row) -> dict[str, Any]:
    difference, interval = as_counted(row.verdict.result, row.metric) if row.verdict else (None, None)
    low, high = interval or (None, None)
    cells: dict[str, Any] = {
        "condition": condition_name(row.condition),
        "data.size": row.size,
        "task": row.task,
        "metric": row.metric,
        "replicates": row.replicates,
        "mean": row.mean,
        "std_decoding": row.std_decoding,
        "std_replicates": row.std_replicates,
        **{f"share_{part}": row.shares and row.shares[part] for part in PARTS},
        "rows_seen": round(row.trained_on["rows_seen"]),
        "distinct_rows_seen": round(row.trained_on["distinct_rows_seen"]),
        "epochs": row.trained_on["epochs"],
        "tokens_seen": round(row.trained_on["tokens_seen"]),
        "difference": difference,
        "low": low,
        "high": high,
        "p": row.verdict and row.verdict.p,
        "verdict": row.verdict and verdict_words(row.verdict, row.metric),
    }
    return {name: "" if cell is None else cell for name, cell in cells.items()}


def _conditions(study: Study) -> list[str]:
    """List the conditions with what matters most, and all that sets them apart."""
    lines = ["| condition | params | replicates |", "|---|---|---|"]
    for condition in study.conditions:
        of = condition.results[0].params
        main = {
            f"{part}.{name}": of[part][name]
            for part, names in MAIN.items()
            for name in names
            if name in of.get(part, {})
        }
        params = ", ".join(f"`{name}: {value}`" for name, value in (main | condition.apart).items())
        counts = ", ".join(
            f"{len(configuration.results)} of {rows_words(size)}"
            for size, configuration in condition.sizes.items()
        )
        lines.append(f"| {condition_name(condition)} | {params} | {counts} |")
    data = study.conditions[0].results[0].params["data"]
    base, extra = (", ".join(f"`{source}`" for source in data[name]) for name in ("base", "extra"))
    return [*lines, "", f"Base: {base}. Extra, where base is used up: {extra or 'none'}.", ""]


def _scores(condition: Condition, rows: list[Row], base: dict[tuple[str, str], float]) -> list[str]:
    """Make the study's table, with how much was read beside it."""
    averages = {
        (row.size, row.metric): row for row in rows if row.condition is condition and row.task == AVERAGE
    }
    rouge = [metric for metric in ROUGE if (min(condition.sizes), metric) in averages]
    others = [metric for metric in COMPARED_BY if metric not in ROUGE]
    header = ["data.size", *(METRICS[metric].label for metric in rouge)]
    header += [*(STD_HEADERS[metric] for metric in rouge), *others, "rows seen", "distinct", "epochs"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    if all((AVERAGE, metric) in base for metric in (*rouge, *others)):
        of_rouge, of_others = (
            " | ".join(_number(base[AVERAGE, metric], metric) for metric in metrics)
            for metrics in (rouge, others)
        )
        lines.append(f"| base model | {of_rouge} |{' |' * len(rouge)} {of_others} | | | |")
    for size in condition.sizes:
        cells = [_number(averages[size, metric].mean, metric) for metric in rouge]
        cells += [_number(averages[size, metric].std_decoding, metric) for metric in rouge]
        cells += [_number(averages[size, metric].mean, metric) for metric in others]
        read = averages[size, COMPARED_BY[0]].trained_on
        cells += [f"{read['rows_seen']:,.0f}", f"{read['distinct_rows_seen']:,.0f}"]
        lines.append(f"| {rows_words(size)} | {' | '.join(cells)} | {read['epochs']:.3g} |")
    return lines


def _variance(rows: list[Row]) -> list[str]:
    lines = [
        "| condition | data.size | metric | std over decoding | std over replicates "
        "| decoding | replicates | examples |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.task == AVERAGE and row.metric in COMPARED_BY:
            cells = [condition_name(row.condition), rows_words(row.size), row.metric]
            cells += [_number(std, row.metric) for std in (row.std_decoding, row.std_replicates)]
            cells += share_cells(row.shares)
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _directions() -> str:
    """Say which of the metrics is better when lower."""
    return " ".join(f"{name}: lower is better." for name in COMPARED_BY if METRICS[name].lower_is_better)


def _number(value: float | None, metric: str) -> str:
    return "" if value is None else format(value, METRICS[metric].format)
