"""What an export says of itself: each file with its size, and what a reader should know of it."""

from collections.abc import Mapping, Sequence
from typing import Any


def summary(found: Mapping[str, Any], folder: str) -> list[str]:
    """Return the lines of a table of what export.json holds, and notes on it."""
    rows = [("file", "MB", "bits a weight", "")]
    for made in found["formats"]:
        rows.append(
            (
                f"{folder}/{made['path']}",
                f"{made['bytes'] / 1e6:.0f}",
                f"{made['bits_per_weight']:.2f}",
                _note(made),
            )
        )
    return [*_columns(rows), *found["notes"]]


def _note(made: Mapping[str, Any]) -> str:
    if not made.get("fell_back"):
        return ""
    total = sum(made["tensors"].values())
    types = ", ".join(f"{number} {kind}" for kind, number in made["tensors"].items())
    return f"{made['fell_back']} of {total} tensors fell back to a larger type: {types}"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    return [
        f"{name:<{widths[0]}}  {size:>{widths[1]}}  {bits:>{widths[2]}}  {note}".rstrip()
        for name, size, bits, note in rows
    ]
