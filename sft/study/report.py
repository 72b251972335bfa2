"""A study's report in words and tables: the conclusion is computed from the numbers, not written by hand."""

from typing import Any

import numpy as np

from sft.evaluation.rouge import VARIANTS
from sft.study.analysis import (
    AVERAGE,
    MEASURES,
    Regime,
    Study,
    apart_too_far,
    pair_name,
    regime_pairs,
    rows,
    size_pairs,
)
from sft.study.comparison import in_words, table
from sft.study.results import Result, left_out, repeated, warnings

# What a reader wants to know of every regime, whether regimes differ in it or not.
MAIN = {"train": ("budget", "batch_size", "learning_rate"), "evaluate": ("examples", "runs")}


def markdown(
    found: Study, results: list[Result], numbers: list[dict[str, Any]], base: dict[tuple[str, str], float]
) -> str:
    """Write the report; `numbers` are `table_rows`, `base` the base model's scores."""
    lines = ["# Does more data help?", "", *warnings(results), *left_out(results)]
    configurations = [configuration for regime in found.regimes for configuration in regime.sizes.values()]
    lines += [*repeated(configurations), conclusion(found, results), ""]
    lines += ["![scores by size](curves.png)", ""]
    lines += [
        "A bar is the 95% interval of the difference from the smallest size of its regime, uncorrected.",
        "",
    ]
    lines += _regimes(found)
    for regime in found.regimes:
        lines += [f"## {regime.name}", "", *_scores(regime, numbers, base), ""]
    lines += [
        "Averages of the tasks; mean over replicates, decoding runs and examples. std: over decoding runs, "
    ]
    lines += ["averaged over replicates. [table.csv](table.csv) has all tasks and measures.", ""]
    lines += ["## What was compared", ""]
    lines += ["Would new trainings, with other seeds, on new examples, differ? nll: lower is better.", ""]
    lines += [*table(found.comparisons, found.judged), ""]
    lines += [f"p is corrected for all {len(found.judged)} comparisons that the study makes (Holm).", ""]
    if pairs := apart_too_far(found.regimes):
        names = "; ".join(f"{first.name} and {second.name}" for first, second in pairs)
        lines += [f"Beside one another only, for they differ in more than one param: {names}.", ""]
    lines += ["## Where a score's variance comes from", "", *_variance(found, numbers), ""]
    return "\n".join(lines)


def _regimes(found: Study) -> list[str]:
    """List the regimes with what matters most, and all that sets them apart."""
    lines = ["| regime | params | replicates |", "|---|---|---|"]
    for regime in found.regimes:
        of = next(iter(regime.sizes.values())).results[0].params
        main = {
            f"{part}.{name}": of[part][name]
            for part, names in MAIN.items()
            for name in names
            if name in of.get(part, {})
        }
        params = ", ".join(f"`{name}: {value}`" for name, value in (main | regime.apart).items())
        counts = ", ".join(
            f"{len(configuration.results)} of {rows(size)}" for size, configuration in regime.sizes.items()
        )
        lines.append(f"| {regime.name} | {params} | {counts} |")
    data = next(iter(found.regimes[0].sizes.values())).results[0].params["data"]
    base, extra = (", ".join(f"`{source}`" for source in data[name]) for name in ("base", "extra"))
    return [*lines, "", f"Base: {base}. Extra, where base is used up: {extra or 'none'}.", ""]


def _scores(regime: Regime, numbers: list[dict[str, Any]], base: dict[tuple[str, str], float]) -> list[str]:
    """Make the study's table, with how much was read beside it."""
    lines = [
        "| data.size | ROUGE-1 | ROUGE-2 | ROUGE-L | std R1 | std R2 | std RL | nll "
        "| rows seen | distinct | epochs |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    if all((AVERAGE, measure) in base for measure in (*VARIANTS, "nll")):
        means = " | ".join(f"{base[AVERAGE, measure]:.3f}" for measure in VARIANTS)
        lines.append(f"| base model | {means} | | | | {base[AVERAGE, 'nll']:.3f} | | | |")
    for size in regime.sizes:
        of = {
            row["measure"]: row
            for row in numbers
            if (row["regime"], row["data.size"], row["task"]) == (regime.name, size, AVERAGE)
        }
        cells = [f"{of[measure]['mean']:.3f}" for measure in VARIANTS]
        cells += [_three(of[measure]["std_decoding"]) for measure in VARIANTS]
        row = of["nll"]
        cells += [f"{row['mean']:.3f}", f"{row['rows_seen']:,}", f"{row['distinct_rows_seen']:,}"]
        lines.append(f"| {rows(size)} | {' | '.join(cells)} | {row['epochs']:.3g} |")
    return lines


def _variance(found: Study, numbers: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| regime | data.size | measure | std over decoding | std over replicates "
        "| decoding | replicates | examples |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in numbers:
        if row["task"] == AVERAGE and row["measure"] in MEASURES:
            shares = [row[f"share_{name}"] for name in ("decoding", "replicates", "examples")]
            cells = [_three(row["std_decoding"]), _three(row["std_replicates"])]
            cells += ["" if share == "" else f"{share:.0%}" for share in shares]
            lines.append(
                f"| {row['regime']} | {rows(row['data.size'])} | {row['measure']} | {' | '.join(cells)} |"
            )
    return lines


def _three(value: float | str) -> str:
    return "" if value == "" else f"{value:.3f}"


def conclusion(found: Study, results: list[Result]) -> str:
    """Say in one paragraph what the numbers say: of the largest size in each regime, and between regimes."""
    sentences = [_of_sizes(found)]
    for regime in found.regimes:
        if len(regime.sizes) > 1:
            smallest, largest = min(regime.sizes), max(regime.sizes)
            name = pair_name(regime, largest, smallest)
            words = f"{rows(largest)} rows instead of {rows(smallest)}"
            sentences += [f"Trained for {regime.name}, {words} {_outcome(found, name)}."]
            sentences += [_reading(regime, smallest, largest)]
    for _, _, name in regime_pairs(found.regimes):
        size, _, sides = name.partition(": ")
        second, _, first = sides.partition(" against ")
        sentences += [f"With {size} rows, {second} instead of {first} {_outcome(found, name)}."]
    told = sum(verdict.words in ("better", "worse") for verdict in found.judged)
    tested = sum(verdict.p is not None for verdict in found.judged)
    sentences += [
        f"{told or 'None'} of the {len(found.judged)} comparisons laid down can be told from chance (Holm)."
    ]
    if refused := len(found.judged) - tested:
        sentences += [f"{refused} of them could not be made yet, for lack of replicates or examples."]
    model = results[0].params["model"]["reference"]
    sentences += [f"This speaks of {model} on this data and these tasks only."]
    return " ".join(filter(None, sentences))


def _of_sizes(found: Study) -> str:
    """Count what the comparisons of sizes found, of those that could be made."""
    names = {name for regime in found.regimes for _, _, name in size_pairs(regime)}
    words = [
        verdict.words
        for comparison, verdict in zip(found.comparisons, found.judged, strict=True)
        if comparison.name in names and verdict.p is not None
    ]
    if not words:
        return ""
    return (
        f"A larger mix is better than the smallest in {words.count('better')} of {len(words)} comparisons, "
        f"and worse in {words.count('worse')}."
    )


def _outcome(found: Study, name: str) -> str:
    """Say what came of a comparison on the average of the tasks, and on which tasks it can be told."""
    parts = []
    for measure in MEASURES:
        comparison, verdict = found.find(name, AVERAGE, measure)
        difference, interval = in_words(comparison)
        label = {"rougeL": "ROUGE-L", "nll": "the references' negative log-likelihood"}[measure]
        details = f"{difference}, 95% interval {interval}" if interval else difference
        parts.append(f"{_verb(verdict.words)} by {label} ({details})")
    tasks = [
        f"{verdict.words} on {comparison.task} by {'ROUGE-L' if comparison.measure == 'rougeL' else 'nll'}"
        for comparison, verdict in zip(found.comparisons, found.judged, strict=True)
        if comparison.name == name and comparison.task != AVERAGE and verdict.words in ("better", "worse")
    ]
    of_tasks = f"; task by task it is {', '.join(tasks)}" if tasks else ""
    return f"{' and '.join(parts)} on the average of the tasks{of_tasks}"


def _verb(words: str) -> str:
    if words in ("better", "worse"):
        return f"is {words}"
    if words.startswith("nothing can be said"):
        return f"cannot be judged ({words.partition(': ')[2]})"
    return words.replace("no difference that this design can see", "makes no difference that can be seen")


def _reading(regime: Regime, smallest: int, largest: int) -> str:
    """Say what else than the mix's size differs: hardly any of it was read, or training was longer, too."""
    read = {
        size: [result.metrics["trained_on"] for result in regime.sizes[size].results]
        for size in (smallest, largest)
    }
    distinct = {size: max(one["distinct_rows_seen"] for one in read[size]) for size in read}
    mean = {
        name: {size: float(np.mean([one[name] for one in read[size]])) for size in read}
        for name in ("rows_seen", "tokens_seen")
    }
    if distinct[largest] < largest / 2:
        return (
            f"Such a training reads {distinct[largest]:,} of {largest:,} rows and {distinct[smallest]:,} of "
            f"{smallest:,}, on average {mean['tokens_seen'][largest]:,.0f} and "
            f"{mean['tokens_seen'][smallest]:,.0f} tokens: the mix's size decides from which sources they "
            "come, not how many rows there are."
        )
    more = {name: sizes[largest] / sizes[smallest] for name, sizes in mean.items()}
    if max(more.values()) < 1.05:
        return ""
    return (
        f"The training on {rows(largest)} rows also reads {more['rows_seen']:.1f} times as many rows and "
        f"{more['tokens_seen']:.1f} times as many tokens."
    )
