"""The figure of a study: scores by size of the mix, a panel a task and measure, a line a regime."""

from itertools import cycle
from pathlib import Path
from typing import Any

from sft.plotting.pipeline import ACCENT, BASE, TUNED, plt, save

COLORS = [TUNED, ACCENT, "#2da44e", "#8250df", "#bf3989", "#57606a"]
LABELS = {"rougeL": "ROUGE-L", "nll": "negative log-likelihood, nats\n(lower is better)"}


def scaling(
    path: Path | str, rows: list[dict[str, Any]], base: dict[tuple[str, str], float], measures: list[str]
) -> None:
    """Draw rows of `study.analysis.table_rows`; a bar is the 95% interval of the change from the least size.

    `base` has the base model's score by task and measure, drawn as a dashed line.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    regimes = list(dict.fromkeys(row["regime"] for row in rows))
    figure, panels = plt.subplots(
        len(measures), len(tasks), figsize=(3.1 * len(tasks), 2.9 * len(measures)), squeeze=False
    )
    for line, measure in zip(panels, measures, strict=True):
        for axes, task in zip(line, tasks, strict=True):
            if (task, measure) in base:
                axes.axhline(base[task, measure], color=BASE, linestyle="--", label="base model")
            for color, regime in zip(cycle(COLORS), regimes, strict=False):
                chosen = [
                    row
                    for row in rows
                    if (row["task"], row["measure"], row["regime"]) == (task, measure, regime)
                ]
                _line(axes, chosen, color, regime)
            axes.set_title(task)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
            axes.margins(x=0.1)
        line[0].set_ylabel(LABELS.get(measure, measure))
    for axes in panels[-1]:
        axes.set_xlabel("data.size, rows")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    save(figure, path, 110, top=0.93)


def _line(axes: Any, rows: list[dict[str, Any]], color: str, label: str) -> None:
    sizes, means = [row["data.size"] for row in rows], [row["mean"] for row in rows]
    axes.plot(sizes, means, color=color, marker="o", markersize=4, linewidth=1.2, label=label)
    for row in rows:
        if row["low"] != "":
            start = row["mean"] - row["difference"]
            ends = [start + row["low"], start + row["high"]]
            axes.plot([row["data.size"]] * 2, ends, color=color, linewidth=3, alpha=0.35)
