"""The figure of a study: scores by size of the mix, a panel a task and metric, a line a condition."""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from sft.plotting.pipeline import ACCENT, BASE, TUNED, plt, save
from sft.tasks.metric_names import METRICS, Metric

# Of more tasks the panels stand below each other.
MOST_BESIDE = 6
COLORS = [TUNED, ACCENT, "#2da44e", "#8250df", "#bf3989", "#57606a"]


@dataclass(frozen=True)
class Point:
    """A score at a size of the mix, and the ends of its bar; None where there is none to draw."""

    size: int
    mean: float
    bar: tuple[float, float] | None


@dataclass(frozen=True)
class Curves:
    """A condition's points, by task and metric, and its name in the legend."""

    label: str
    points: dict[tuple[str, str], list[Point]]


def scaling(
    path: Path | str, conditions: list[Curves], base: dict[tuple[str, str], float], metrics: list[str]
) -> None:
    """Draw a study's scores by these metrics, which every condition has on every task.

    `base` has the base model's score by task and metric, drawn as a dashed line. A line of panels is
    a metric's, of many tasks a task's.
    """
    tasks = list(dict.fromkeys(task for curves in conditions for task, _ in curves.points))
    down = len(tasks) > MOST_BESIDE
    shape = (len(tasks), len(metrics)) if down else (len(metrics), len(tasks))
    size = (max(3.1 * shape[1], 2.2 * (len(conditions) + bool(base))), 2.9 * shape[0])
    figure, panels = plt.subplots(*shape, figsize=size, squeeze=False)
    for place, metric in enumerate(metrics):
        for axes, task in zip(panels[:, place] if down else panels[place], tasks, strict=True):
            if (task, metric) in base:
                axes.axhline(base[task, metric], color=BASE, linestyle="--", label="base model")
            for color, curves in zip(cycle(COLORS), conditions, strict=False):
                _line(axes, curves.points[task, metric], color, curves.label)
            axes.set_title(task)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
            axes.margins(x=0.1)
            if down or task == tasks[0]:
                axes.set_ylabel(_label(METRICS[metric]))
    for axes in panels[-1]:
        axes.set_xlabel("data.size, rows")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    save(figure, path, 110, top=1 - 0.07 * 2 / max(2, shape[0]))


def _label(metric: Metric) -> str:
    return metric.label + ("\n(lower is better)" if metric.lower_is_better else "")


def _line(axes: Any, points: list[Point], color: str, label: str) -> None:
    sizes, means = [point.size for point in points], [point.mean for point in points]
    axes.plot(sizes, means, color=color, marker="o", markersize=4, linewidth=1.2, label=label)
    for point in points:
        if point.bar:
            axes.plot([point.size] * 2, point.bar, color=color, linewidth=3, alpha=0.35)
