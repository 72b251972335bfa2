"""What an adapter gained over the base model, as a table for people and as rows of a CSV file."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sft.evaluation.scores_file import DIGITS
from sft.statistics.gains import Gain
from sft.tasks.metric_names import METRICS


def as_rows(found: Sequence[Gain]) -> list[dict[str, Any]]:
    """Return one row a gain, an empty cell for what it has not."""

    def rounded(value: float | None) -> float | str:
        return "" if value is None else round(value, DIGITS)

    return [
        {
            "task": gain.task,
            "metric": gain.metric,
            "before": rounded(gain.before),
            "after": rounded(gain.after),
            "difference": rounded(gain.difference),
            "low": rounded(gain.low),
            "high": rounded(gain.high),
            "p": "" if gain.p is None else f"{gain.p:.3g}",
            "verdict": gain.outcome.value,
            "note": gain.note,
        }
        for gain in found
    ]


def lines(found: Sequence[Gain]) -> list[str]:
    """Return a table, metric by metric: the means before and after, the difference, what to think of it.

    A note that several lines of a metric share stands once below them.
    """
    width = max(len(gain.task) for gain in found)
    table = []
    for metric in dict.fromkeys(gain.metric for gain in found):
        described, of_metric = METRICS[metric], [gain for gain in found if gain.metric == metric]
        direction = "lower" if described.lower_is_better else "higher"
        times = Counter((gain.outcome.value, gain.note) for gain in of_metric if gain.note)
        table += ["", f"{described.label} ({direction} is better)"]
        for gain in of_metric:
            note = f" ({gain.note})" if times[gain.outcome.value, gain.note] == 1 else ""
            table.append(f"  {gain.task:<{width}}  {_cells(gain)}{note}")
        table += [f"  {outcome}: {note}" for (outcome, note), count in times.items() if count > 1]
    return table


def _cells(gain: Gain) -> str:
    plain = METRICS[gain.metric].format
    signed = f"+z{plain}"  # z: no -0.000
    levels = f"{gain.before:{plain}} -> {gain.after:{plain}}"
    interval = ""
    if gain.low is not None and gain.high is not None:
        interval = f"95% interval {gain.low:{signed}} to {gain.high:{signed}}"
    return f"{levels:>14}  {gain.difference:>+z7{plain}}  {interval:<32}  {gain.outcome.value}"
