"""The pipeline's figures, by matplotlib; equal numbers give equal files."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from sft.core.files import replacing
from sft.tasks.metric_names import METRICS, ROUGE

BASE, TUNED, ACCENT = "#9aa5b1", "#1f6feb", "#d9730d"
# Of more groups of bars the panels stand below each other.
MOST_BESIDE = 6


def save(figure: Any, path: Path | str, dpi: int, top: float = 1.0, bottom: float = 0.0) -> None:
    """Lay the figure out between `bottom` and `top`, shares of its height, and write it as a PNG."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(rect=(0, bottom, 1, top))
    with replacing(path) as temporary:
        # The default metadata holds matplotlib's version; without it an update changes no picture's bytes.
        figure.savefig(temporary, dpi=dpi, format="png", metadata={"Software": None})
    plt.close(figure)


def loss_curves(path: Path | str, train: list[dict], validation: list[dict], dpi: int) -> None:
    """Draw training loss by step and validation loss where there is one (dicts of `step` and `loss`)."""
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(
        [row["step"] for row in train],
        [row["loss"] for row in train],
        color=BASE,
        linewidth=1.2,
        label="training (each step's own rows)",
    )
    axes.plot(
        [row["step"] for row in validation],
        [row["loss"] for row in validation],
        color=TUNED,
        marker="o",
        label="validation (the same held-out rows)",
    )
    axes.set(xlabel="optimizer step", ylabel="loss (nats a token)", title="Loss")
    axes.legend(frameon=False)
    save(figure, path, dpi)


def rouge_bars(
    path: Path | str, base: dict[str, dict[str, float]], tuned: dict[str, dict[str, float]], dpi: int
) -> None:
    """Draw a panel a ROUGE variant: the base model's and the adapter's score on every task and on average.

    Both are metrics by task and metric. The panels stand side by side, of many tasks below each other.
    """
    tasks = list(tuned)
    shape, size = (1, len(ROUGE)), (4.0 * len(ROUGE), 3.8)
    if down := len(tasks) > MOST_BESIDE:
        shape, size = (len(ROUGE), 1), (0.8 * len(tasks) + 1, 2.3 * len(ROUGE) + 0.8)
    figure, grid = plt.subplots(*shape, figsize=size, sharex=down, sharey=True, squeeze=False)
    panels = grid.flatten()
    for axes, variant in zip(panels, ROUGE, strict=True):
        for side, (label, color, metrics) in enumerate((("base", BASE, base), ("tuned", TUNED, tuned))):
            bars = axes.bar(
                [place + (side - 0.5) * 0.42 for place in range(len(tasks))],
                [metrics[task][variant] for task in tasks],
                width=0.4,
                color=color,
                label=label,
            )
            axes.bar_label(bars, fmt="{:.2f}", fontsize=7, padding=1)
        axes.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right")
        axes.set_title(METRICS[variant].label)
    label = "F-measure, mean over examples and runs"
    if down:
        figure.supylabel(label, fontsize=10)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncols=2, frameon=False)
    else:
        panels[0].set_ylabel(label)
        panels[-1].legend(frameon=False)
    save(figure, path, dpi)


def composition(path: Path | str, counts: dict[str, int], dpi: int) -> None:
    """Draw how many rows of each kind the mix has."""
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.45 * max(3, len(counts))))
    names = sorted(counts, key=lambda name: counts[name])
    bars = axes.barh(names, [counts[name] for name in names], color=TUNED)
    axes.bar_label(bars, [f"{counts[name]:,}" for name in names], padding=4)
    axes.margins(x=0.15)
    axes.set(xlabel="rows", title=f"The mix: {sum(counts.values()):,} rows")
    save(figure, path, dpi)


def length_edges(longest: int) -> list[int]:
    """Return bin edges at the half-powers of two from 1 to beyond `longest`, without repeats."""
    edges = [1]
    while edges[-1] <= longest:
        edges.append(max(edges[-1] + 1, round(2 ** (len(edges) / 2))))
    return edges


def histogram(lengths: list[int]) -> list[dict[str, int]]:
    """Count the lengths by bins from `tokens` to the next bin's, each a half-power of two."""
    edges = length_edges(max(lengths))
    counts = [sum(low <= length < high for length in lengths) for low, high in pairwise(edges)]
    return [{"tokens": low, "rows": count} for low, count in zip(edges, counts, strict=False)]


def token_lengths(path: Path | str, lengths: list[int], limit: int, dpi: int) -> None:
    """Draw a histogram of the lengths, in tokens, of a sample of the mix, and training's limit."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    edges = length_edges(max(lengths))
    axes.hist(lengths, bins=edges, color=TUNED, edgecolor="white")
    axes.axvline(limit, color=ACCENT, linestyle="--", label=f"train.max_length ({limit:,})")
    over = sum(length > limit for length in lengths) / len(lengths)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlim(left=max(1, min(lengths) * 0.7))
    axes.set(
        xlabel="tokens in a conversation, template included (log scale)",
        ylabel="rows",
        title=f"Lengths of {len(lengths):,} rows sampled from the mix; {over:.1%} over the limit",
    )
    axes.legend(frameon=False)
    save(figure, path, dpi)
