"""The figure that says whether the adapter is better than the base model: differences with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from sft.plotting.pipeline import ACCENT, TUNED, plt, save
from sft.tasks.metric_names import METRICS
from sft.tasks.task import AVERAGE

GREY, SHADE = "#57606a", "#eef4fd"


@dataclass(frozen=True)
class Gain:
    """A task's means by one metric before and after, their difference, its 95% interval and the verdict.

    `low` and `high` are None where nothing is judged. The task may be the average of the tasks.
    """

    task: str
    metric: str
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class _Look:
    """How a verdict is drawn: by its colour, and, for print without colours, by the marker's form."""

    color: str
    marker: str
    filled: bool
    label: str


LOOKS = {
    "better": _Look(TUNED, "o", True, "better"),
    "worse": _Look(ACCENT, "s", True, "worse"),
    "no difference": _Look(GREY, "o", False, "not told apart"),
    "not judged": _Look(GREY, "x", True, "not judged"),
}


def forest(path: Path | str, gains: Sequence[Gain], dpi: int) -> None:
    """Draw a panel a metric and a line a task: the difference from the base model, right being better."""
    metrics = list(dict.fromkeys(gain.metric for gain in gains))
    tasks = list(dict.fromkeys(gain.task for gain in gains))
    widths = [1.0 if METRICS[metric].common else 0.75 for metric in metrics]
    figure, panels = plt.subplots(
        1,
        len(metrics),
        figsize=(1.4 + 3.3 * sum(widths), 1.9 + 0.55 * len(tasks)),
        sharey=True,
        squeeze=False,
        gridspec_kw={"width_ratios": widths},
    )
    for axes, metric in zip(panels[0], metrics, strict=True):
        _panel(axes, metric, [gain for gain in gains if gain.metric == metric], tasks)
    labels = ["average of tasks" if task == AVERAGE else task for task in tasks]
    first = panels[0][0]
    first.set_yticks(range(len(tasks)), labels)
    first.set_ylim(len(tasks) - 0.5, -0.6)  # the first line on top
    if AVERAGE in tasks:
        first.get_yticklabels()[tasks.index(AVERAGE)].set_fontweight("bold")
    head, *rest = title(gains)
    figure.suptitle(head, fontsize=13, fontweight="bold", x=0.02, ha="left", y=0.985)
    below = "\n".join(line for part in rest for line in wrap(part, int(28 * sum(widths)) + 14))
    figure.text(0.02, 0.985 - 0.3 / figure.get_figheight(), below, fontsize=9.5, color=GREY, va="top")
    shown = [look for verdict, look in LOOKS.items() if verdict in {gain.verdict for gain in gains}]
    figure.legend(
        handles=[_key(look) for look in shown],
        loc="lower right",
        ncols=len(shown),
        frameon=False,
        fontsize=9,
        bbox_to_anchor=(1, 0),
    )
    figure.text(
        0.02, 0.02, "bars: 95% interval, paired over examples; numbers: base model → adapter", fontsize=8.5,
        color=GREY,
    )  # fmt: skip
    lines = 1 + len(below.splitlines())
    save(figure, path, dpi, top=1 - (0.25 + 0.18 * lines) / figure.get_figheight(), bottom=0.06)


def title(gains: Sequence[Gain]) -> list[str]:
    """Return the verdict in short: a headline, and a line each on what got better and what got worse."""
    better, worse = (_listed(gains, verdict) for verdict in ("better", "worse"))
    if better and worse:
        head = "Better than the base model in part, and worse in part"
    elif better:
        head = "Better than the base model"
    elif worse:
        head = "Worse than the base model"
    else:
        head = "Not told apart from the base model"
    lines = [f"{name}: {what}." for name, what in (("Better", better), ("Worse", worse)) if what]
    return [head, *lines]


def _listed(gains: Sequence[Gain], verdict: str) -> str:
    """Name the metrics with the tasks on which they have this verdict."""
    parts = []
    for metric in dict.fromkeys(gain.metric for gain in gains):
        of_metric = [gain for gain in gains if gain.metric == metric]
        named = [gain.task for gain in of_metric if gain.verdict == verdict]
        if not named:
            continue
        if len(of_metric) == 1:
            parts.append(METRICS[metric].label)
        elif len(named) == len(of_metric):
            parts.append(f"{METRICS[metric].label} on average and on every task")
        else:
            names = ["on average" if name == AVERAGE else f"on {name}" for name in named]
            parts.append(f"{METRICS[metric].label} {', '.join(names)}")
    return "; ".join(parts)


def _panel(axes: Any, metric: str, gains: Sequence[Gain], tasks: Sequence[str]) -> None:
    described = METRICS[metric]
    for gain in gains:
        look, line = LOOKS[gain.verdict], tasks.index(gain.task)
        if gain.low is not None and gain.high is not None:
            axes.plot([gain.low, gain.high], [line, line], color=look.color, linewidth=2.2, zorder=2)
        axes.plot(gain.difference, line, **_marker(look), zorder=3)
        levels = f"{gain.before:{described.format}} → {gain.after:{described.format}}"
        axes.annotate(
            levels, (gain.difference, line), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    ends = [0.0, *(x for gain in gains for x in (gain.low, gain.high, gain.difference) if x is not None)]
    room = (max(ends) - min(ends)) * 0.18 or 1.0
    left, right = min(ends) - room, max(ends) + room
    axes.set_xlim((right, left) if described.lower_is_better else (left, right))
    axes.axvspan(0, left if described.lower_is_better else right, color=SHADE, zorder=0)
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:+{described.format}}" if abs(x) > 1e-9 else "0")
    axes.tick_params(axis="y", length=0)
    axes.set_title(described.label, fontsize=11)
    direction = "lower" if described.lower_is_better else "higher"
    axes.set_xlabel(f"difference ({direction} is better)\n← worse      better →", fontsize=9)


def _marker(look: _Look) -> dict[str, Any]:
    return {
        "color": look.color,
        "marker": look.marker,
        "markersize": 7,
        "markeredgewidth": 1.6,
        "markerfacecolor": look.color if look.filled else "white",
        "linestyle": "none",
    }


def _key(look: _Look) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=look.label, **{**_marker(look), "linestyle": "-", "linewidth": 2.2})
