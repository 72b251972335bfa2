"""The words that reports share: of verdicts, comparisons, and what to be warned of, in Markdown."""

from collections.abc import Iterable

from sft.statistics.intervals import Interval, Lack, Refusal
from sft.statistics.significance import Outcome, Verdict
from sft.study.analysis import Condition, Kind, Pair
from sft.study.comparison import as_counted
from sft.study.results import Configuration, Result, Stage, mismatches, missing

# What there is too little of, one and many; of seeds, Lack has the param's name.
NOUNS = {Lack.REPLICATES: ("replicate", "replicates"), Lack.EXAMPLES: ("example", "examples")}
PARTS = ("decoding", "replicates", "examples")  # of a score's variance


def configuration_name(configuration: Configuration) -> str:
    """Name a configuration by the params that set it apart."""
    return ", ".join(f"{name} {value}" for name, value in configuration.apart.items()) or "this configuration"


def condition_name(condition: Condition) -> str:
    """Name a condition by its budget, and by what else sets it apart from others of that budget."""
    besides = [f"{name.rpartition('.')[2]} {value}" for name, value in condition.beside_budget.items()]
    return ", ".join([condition.budget, *besides])


def pair_name(pair: Pair) -> str:
    """Name what is compared."""
    name = condition_name(pair.condition)
    if pair.kind is Kind.SIZE:
        return f"{name}: {rows_words(pair.size)} against {rows_words(pair.reference_size)}"
    return f"{rows_words(pair.size)}: {name} against {condition_name(pair.reference)}"


def rows_words(size: int) -> str:
    """Write a number of rows as people do: 100k."""
    return f"{size // 1000}k" if size % 1000 == 0 else f"{size:,}"


def verdict_words(verdict: Verdict) -> str:
    """Put a verdict into words."""
    if isinstance(verdict.result, Refusal):
        return f"nothing can be said: {lack_words(verdict.result)}"
    if verdict.outcome is Outcome.NO_DIFFERENCE:
        return f"no difference that this design can see ({smallest_words(verdict)})"
    return verdict.outcome.value


def lack_words(refusal: Refusal) -> str:
    """Say why nothing can be said."""
    if refusal.lack not in NOUNS:
        return f"replicates of one {refusal.lack.value}"
    one, many = NOUNS[refusal.lack]
    return f"{refusal.count} {many if refusal.count > 1 else one}"


def smallest_words(verdict: Verdict) -> str:
    """Say which difference this design would most likely have seen."""
    return f"smallest it could: {verdict.smallest:.4f}"


def difference_words(result: Interval | Refusal, metric: str) -> tuple[str, str]:
    """Write the difference and its interval as the metric counts."""
    difference, interval = as_counted(result, metric)
    return f"{difference:+.4f}", f"{interval[0]:+.4f} to {interval[1]:+.4f}" if interval else ""


def table(rows: Iterable[tuple[str, str, str, Verdict]]) -> list[str]:
    """Make a Markdown table of verdicts, each with what was compared, on which task, by which metric."""
    lines = [
        "| | task | metric | difference | 95% interval | p, corrected | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, task, metric, verdict in rows:
        difference, interval = difference_words(verdict.result, metric)
        p = "" if verdict.p is None else f"{verdict.p:.3f}"
        lines.append(
            f"| {name} | {task} | {metric} | {difference} | {interval} | {p} | {verdict_words(verdict)} |"
        )
    return lines


def share_cells(shares: dict[str, float] | None) -> list[str]:
    """Write what shares of the variance its parts have."""
    return [f"{shares[part]:.0%}" if shares else "" for part in PARTS]


def caveats(results: list[Result], configurations: list[Configuration]) -> list[str]:
    """Say what else than the params may differ, which metrics some results lack, and who is no replicate."""
    lines = []
    for mismatch in mismatches(results):
        did = {Stage.TRAINING: "were trained", Stage.EVALUATION: "answered"}[mismatch.stage]
        what = f"by different versions of {mismatch.package}" if mismatch.package else "on different devices"
        lines.append(f"**Warning**: the results {did} {what}: {', '.join(mismatch.values)}.")
    for gap in missing(results):
        lines.append(
            f"Not compared: {gap.metric} of {gap.task}, missing in {', '.join(gap.results)}. Evaluate anew."
        )
    for configuration in configurations:
        for result in configuration.repeated:
            lines.append(f"Not a replicate: {result.name} has the params and seeds of another result.")
    return [line for caveat in lines for line in (caveat, "")]
