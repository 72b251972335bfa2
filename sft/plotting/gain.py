"""The figure that says whether the adapter is better than the base model: differences with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from sft.plotting.pipeline import ACCENT, TUNED, plt, save
from sft.statistics.gains import Gain, headline, sentence
from sft.statistics.significance import Outcome
from sft.tasks.metric_names import METRICS
from sft.tasks.task import AVERAGE

GREY, SHADE = "#57606a", "#eef4fd"
# Panels side by side.
MOST_BESIDE = 4


@dataclass(frozen=True)
class _Look:
    """How an outcome is drawn: by its colour, and, for print without colours, by the marker's form."""

    color: str
    marker: str
    filled: bool


LOOKS = {
    Outcome.BETTER: _Look(TUNED, "o", True),
    Outcome.WORSE: _Look(ACCENT, "s", True),
    Outcome.NO_DIFFERENCE: _Look(GREY, "o", False),
    Outcome.NOT_TESTED: _Look(GREY, "D", False),
    Outcome.NOT_JUDGED: _Look(GREY, "x", True),
}


def forest(path: Path | str, gains: Sequence[Gain], dpi: int) -> None:
    """Draw a panel a metric and a line a task: the difference from the base model, right being better.

    Of many metrics those that only some tasks have stand in lines of their own below the others.
    """
    metrics = list(dict.fromkeys(gain.metric for gain in gains))
    beside = [metrics]
    if len(metrics) > MOST_BESIDE:
        common, own = ([m for m in metrics if METRICS[m].common == of_all] for of_all in (True, False))
        beside = [common, *(own[n : n + MOST_BESIDE - 1] for n in range(0, len(own), MOST_BESIDE - 1))]
    widths = [1.0 if METRICS[metric].common else 0.75 for metric in beside[0]]
    tasks = [list(dict.fromkeys(gain.task for gain in gains if gain.metric in line)) for line in beside]
    inches = [1.9 + 0.55 * len(of_line) for of_line in tasks]
    width = max(1.4 + 3.3 * sum(widths), 9.5 if len(beside) > 1 else 0)
    figure = plt.figure(figsize=(width, sum(inches)))
    grid = figure.add_gridspec(len(beside), 1, height_ratios=inches) if len(beside) > 1 else None
    for number, (line, of_line) in enumerate(zip(beside, tasks, strict=True)):
        if grid is None:
            panels = figure.subplots(
                1, len(line), sharey=True, squeeze=False, gridspec_kw={"width_ratios": widths}
            )[0]
        else:
            panels = grid[number].subgridspec(1, len(line)).subplots(sharey=True, squeeze=False)[0]
        _line(panels, line, gains, of_line)
    head, *rest = title(gains)
    characters = int(42 * (width - 1.4) / 3.3) + 12  # of a line below the headline
    below = "\n".join(line for part in rest for line in wrap(part, characters))
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.1 / height, head, fontsize=13, fontweight="bold", va="top")
    figure.text(0.02, 1 - 0.4 / height, below, fontsize=9.5, color=GREY, va="top", linespacing=1.35)
    shown = [outcome for outcome in LOOKS if outcome in {gain.outcome for gain in gains}]
    figure.legend(
        handles=[_key(outcome) for outcome in shown],
        loc="lower right",
        ncols=len(shown),
        frameon=False,
        fontsize=9,
        bbox_to_anchor=(1, 0),
    )
    figure.text(
        0.02,
        0.02,
        "numbers: base model → adapter; bars: 95% interval over the examples,\nof this one training: "
        "another seed gives another adapter",
        fontsize=9,
        color=GREY,
    )
    taken = 0.45 + 0.19 * len(below.splitlines())  # inches
    save(figure, path, dpi, top=1 - taken / height, bottom=0.3 / height)


def title(gains: Sequence[Gain]) -> list[str]:
    """Return the verdict: in a few words, and in a sentence."""
    return [headline(gains, "the base model"), sentence(gains, "the base model")]


def _line(panels: Sequence[Any], metrics: Sequence[str], gains: Sequence[Gain], tasks: Sequence[str]) -> None:
    """Draw panels side by side, with the same tasks."""
    for axes, metric in zip(panels, metrics, strict=True):
        _panel(axes, metric, [gain for gain in gains if gain.metric == metric], tasks)
    first = panels[0]
    first.set_yticks(range(len(tasks)), ["average of tasks" if task == AVERAGE else task for task in tasks])
    first.set_ylim(len(tasks) - 0.5, -0.6)  # the first line on top
    if AVERAGE in tasks:
        first.get_yticklabels()[tasks.index(AVERAGE)].set_fontweight("bold")


def _panel(axes: Any, metric: str, gains: Sequence[Gain], tasks: Sequence[str]) -> None:
    described = METRICS[metric]
    for gain in gains:
        look, line = LOOKS[gain.outcome], tasks.index(gain.task)
        if gain.low is not None and gain.high is not None:
            axes.plot([gain.low, gain.high], [line, line], color=look.color, linewidth=2.2, zorder=2)
        axes.plot(gain.difference, line, **_marker(look), zorder=3)
        levels = f"{gain.before:{described.format}} → {gain.after:{described.format}}"
        axes.annotate(
            levels,
            (gain.difference, line),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            zorder=4,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )
    ends = [0.0, *(x for gain in gains for x in (gain.low, gain.high, gain.difference) if x is not None)]
    room = (max(ends) - min(ends)) * 0.18 or 1.0
    left, right = min(ends) - room, max(ends) + room
    axes.set_xlim((right, left) if described.lower_is_better else (left, right))
    axes.axvspan(0, left if described.lower_is_better else right, color=SHADE, zorder=0)
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda x, _: _signed(x, described.format))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(described.label, fontsize=11)
    direction = "lower" if described.lower_is_better else "higher"
    axes.set_xlabel(f"difference ({direction} is better)\n", fontsize=9)
    for place, text, side in ((0, "← worse", "left"), (1, "better →", "right")):
        below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 9}
        axes.annotate(text, (place, 0), (0, -42), ha=side, **below)


def _signed(value: float, form: str) -> str:
    """Write a difference without the zeros that end it."""
    text = f"{value:+{form}}"
    return "0" if abs(value) < 1e-9 else text if text.endswith("%") else text.rstrip("0").rstrip(".")


def _marker(look: _Look) -> dict[str, Any]:
    return {
        "color": look.color,
        "marker": look.marker,
        "markersize": 7,
        "markeredgewidth": 1.6,
        "markerfacecolor": look.color if look.filled else "white",
        "linestyle": "none",
    }


def _key(outcome: Outcome) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], label=outcome.value, **{**_marker(LOOKS[outcome]), "linestyle": "-", "linewidth": 2.2}
    )
