"""What an export says of itself: each file with its size, and what a reader should know of it."""

from collections.abc import Mapping, Sequence
from typing import Any

OWN = {"q8_0": "Q8_0", "q4_k_m": "Q4_K or Q6_K"}


def summary(found: Mapping[str, Any], folder: str, load_in_4bit: bool) -> list[str]:
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
    return [*_columns(rows), *_notes(found, load_in_4bit)]


def _note(made: Mapping[str, Any]) -> str:
    if not made.get("fell_back"):
        return ""
    total = sum(made["tensors"].values())
    types = ", ".join(f"{number} {kind}" for kind, number in made["tensors"].items())
    return f"{made['fell_back']} of {total} tensors fell back to a larger type: {types}"


def _notes(found: Mapping[str, Any], load_in_4bit: bool) -> list[str]:
    notes = []
    if load_in_4bit:
        notes.append(
            "The adapter was trained on 4-bit weights (model.load_in_4bit). It is merged into the "
            f"unquantized ones of {found['base_model']['reference']}, so it answers a little differently."
        )
    return notes


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    return [
        f"{name:<{widths[0]}}  {size:>{widths[1]}}  {bits:>{widths[2]}}  {note}".rstrip()
        for name, size, bits, note in rows
    ]
