"""The figure of a study: scores by size of the mix, a panel a task and metric, a line a condition."""

from itertools import cycle
from pathlib import Path
from typing import Any

from sft.plotting.pipeline import ACCENT, BASE, TUNED, plt, save
from sft.tasks.metric_names import METRICS, Metric

COLORS = [TUNED, ACCENT, "#2da44e", "#8250df", "#bf3989", "#57606a"]


def scaling(
    path: Path | str, rows: list[dict[str, Any]], base: dict[tuple[str, str], float], metrics: list[str]
) -> None:
    """Draw a study's table of scores; a bar is the 95% interval of the change from the least size.

    `base` has the base model's score by task and metric, drawn as a dashed line.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    figure, panels = plt.subplots(
        len(metrics), len(tasks), figsize=(3.1 * len(tasks), 2.9 * len(metrics)), squeeze=False
    )
    for line, metric in zip(panels, metrics, strict=True):
        for axes, task in zip(line, tasks, strict=True):
            if (task, metric) in base:
                axes.axhline(base[task, metric], color=BASE, linestyle="--", label="base model")
            for color, condition in zip(cycle(COLORS), conditions, strict=False):
                chosen = [
                    row
                    for row in rows
                    if (row["task"], row["metric"], row["condition"]) == (task, metric, condition)
                ]
                _line(axes, chosen, color, condition)
            axes.set_title(task)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
            axes.margins(x=0.1)
        line[0].set_ylabel(_label(METRICS[metric]))
    for axes in panels[-1]:
        axes.set_xlabel("data.size, rows")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    save(figure, path, 110, top=0.93)


def _label(metric: Metric) -> str:
    unit = metric.unit.partition(" a ")[0]  # the axis is too short for "nats a token"
    direction = "\n(lower is better)" if metric.lower_is_better else ""
    return metric.label + (f", {unit}" if unit else "") + direction


def _line(axes: Any, rows: list[dict[str, Any]], color: str, label: str) -> None:
    sizes, means = [row["data.size"] for row in rows], [row["mean"] for row in rows]
    axes.plot(sizes, means, color=color, marker="o", markersize=4, linewidth=1.2, label=label)
    for row in rows:
        if row["low"] != "":
            start = row["mean"] - row["difference"]
            ends = [start + row["low"], start + row["high"]]
            axes.plot([row["data.size"]] * 2, ends, color=color, linewidth=3, alpha=0.35)
