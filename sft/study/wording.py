"""The words that reports share: of verdicts, comparisons, and what to be warned of, in Markdown."""

from collections.abc import Iterable, Sequence

from sft.statistics.gains import as_counted, note_of
from sft.statistics.intervals import Interval, Refusal
from sft.statistics.significance import Verdict
from sft.study.analysis import Condition, Kind, Pair
from sft.study.differences import FarOut, Stage, mismatches, other_code, outlying
from sft.study.result_scores import ByResult, missing
from sft.study.results import DATA, Configuration, Result
from sft.tasks.metric_names import METRICS

FAMILIES = (
    "in two families of 5% each: bits per byte (the average first, the tasks only where it is significant), "
    "and the answers (Holm)"
)
PARTS = ("decoding", "replicates", "examples")  # of a score's variance


def configuration_name(configuration: Configuration) -> str:
    """Name a configuration by the params that set it apart, and by its data where that does."""
    params = [f"{name} {value}" for name, value in configuration.apart.items() if name != DATA]
    data = [f"standardized data {configuration.apart[DATA]}"] if DATA in configuration.apart else []
    return ", ".join([*params, *data]) or "this configuration"


def condition_name(condition: Condition) -> str:
    """Name a condition by its budget, and by what else sets it apart from others of that budget."""
    besides = [
        f"standardized data {value}" if name == DATA else f"{name.rpartition('.')[2]} {value}"
        for name, value in condition.beside_budget.items()
    ]
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


def verdict_words(verdict: Verdict, metric: str) -> str:
    """Put a verdict into words."""
    note = note_of(verdict, metric)
    return f"{verdict.outcome.value} ({note})" if note else verdict.outcome.value


def p_words(p: float | None) -> str:
    """Write a p-value."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


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
        lines.append(
            f"| {name} | {task} | {metric} | {difference} | {interval} | {p_words(verdict.p)} "
            f"| {verdict_words(verdict, metric)} |"
        )
    return lines


def share_cells(shares: dict[str, float] | None) -> list[str]:
    """Write what shares of the variance its parts have."""
    return [f"{shares[part]:.0%}" if shares else "" for part in PARTS]


def caveats(
    results: Sequence[Result], configurations: Sequence[Configuration], scores: ByResult
) -> list[str]:
    """Say what else than the params may differ, what cannot be checked, and who is no replicate."""
    lines = []
    for mismatch in mismatches(results):
        did = {Stage.TRAINING: "were trained", Stage.EVALUATION: "answered"}[mismatch.stage]
        what = f"by different versions of {mismatch.package}" if mismatch.package else "on different devices"
        lines.append(f"**Warning**: the results {did} {what}: {', '.join(mismatch.values)}.")
    if code := other_code(results):
        lines.append(f"**Warning**: the results were not made by the same code: {', '.join(code)} differ.")
    if other := [configuration for configuration in configurations if DATA in configuration.apart]:
        names = "; ".join(
            f"{', '.join(result.name for result in of.results)} ({of.apart[DATA]})" for of in other
        )
        lines.append(
            "Other data: these have the same params, but what standardize made differs, so they count as "
            f"different configurations, not as replicates: {names}."
        )
    if unknown := [result.name for result in results if result.inputs is None]:
        lines.append(
            "Not checked, for what they were made from is not recorded: whether the same data and code made "
            f"{', '.join(unknown)} as the others."
        )
    lines += [_far_out_words(of) for of in outlying(configurations, scores)]
    for gap in missing(results):
        lines.append(
            f"Not compared: {gap.metric} of {gap.task}, missing in {', '.join(gap.results)}. Evaluate anew."
        )
    for configuration in configurations:
        for result in configuration.repeated:
            lines.append(f"Not a replicate: {result.name} has the params and seeds of another result.")
    return [line for caveat in lines for line in (caveat, "")]


def _far_out_words(of: FarOut) -> str:
    form = METRICS[of.metric].format
    low, high = (format(of.others[place], form) for place in (0, -1))
    return (
        f"**Warning**: {of.result} lies far from its replicates: {METRICS[of.metric].label} "
        f"{of.value:{form}} on average, the others {low} to {high}. See whether its training failed. Where "
        "trainings fail now and then, the intervals of few replicates do not hold."
    )
