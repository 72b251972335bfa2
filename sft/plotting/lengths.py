"""How long conversations are in tokens: bins that break at training's limit, and their figure."""

from itertools import pairwise
from math import log2
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sft.plotting.pipeline import ACCENT, TUNED, length_edges, plt, save


class Bin(NamedTuple):
    """How many rows have from `low` to `high` tokens, both included."""

    low: int
    high: int
    rows: int


def bins(lengths: list[int], limit: int) -> list[Bin]:
    """Count the lengths by half-powers of two and, in place of one close by, a break just above `limit`.

    Bins before the first length and after the last are left out.
    """
    first, *inner, last = length_edges(max(lengths))
    if first < limit + 1 < last:
        inner = sorted([limit + 1, *(edge for edge in inner if abs(log2(edge / (limit + 1))) > 0.25)])
    edges = [first, *inner, last]
    counts, _ = np.histogram(lengths, edges)
    found = [
        Bin(low, high - 1, rows) for (low, high), rows in zip(pairwise(edges), counts.tolist(), strict=True)
    ]
    filled = [place for place, one in enumerate(found) if one.rows]
    return found[filled[0] : filled[-1] + 1]


def histogram(path: Path | str, lengths: list[int], limit: int, of_what: str, dpi: int = 110) -> None:
    """Draw the lengths of rows, those above `limit` in another colour; the title says which rows."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    counted = bins(lengths, limit)
    for color, label, chosen in (
        (TUNED, f"up to train.max_length ({limit:,})", [one for one in counted if one.high <= limit]),
        (ACCENT, "longer", [one for one in counted if one.high > limit]),
    ):
        if chosen:
            axes.bar(
                [one.low for one in chosen],
                [one.rows for one in chosen],
                width=[one.high + 1 - one.low for one in chosen],
                align="edge",
                color=color,
                edgecolor="white",
                label=label,
            )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    over = sum(length > limit for length in lengths) / len(lengths)
    axes.set(
        xlabel="tokens in a conversation, template included (log scale)",
        ylabel="rows",
        title=f"Lengths of {of_what}; {over:.1%} over the limit",
    )
    axes.legend(frameon=False)
    save(figure, path, dpi)
