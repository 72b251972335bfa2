"""The account of what was read of each kind of rows, and its lines in the stage's summary."""

from collections.abc import Mapping
from dataclasses import dataclass

from sft.training.budget import Reading
from sft.training.mixture import Weights


@dataclass
class KindRead:
    """Rows of one kind: its weight (None if proportional), the rows read, and how many epochs that is."""

    weight: float | None
    rows_seen: int
    distinct_rows_seen: int
    rows_in_mix: int
    epochs: float


def kinds_read(reading: Reading, in_mix: Mapping[str, int], weights: Weights) -> dict[str, KindRead]:
    """Say of each kind how much was read, by rows read.

    `in_mix` counts the mix's rows by kind. Kinds that have a weight but no rows in it are there too.
    """
    read = reading.by_kind()
    of = weights if isinstance(weights, dict) else None
    kinds = {}
    for kind in {
        **in_mix,
        **{kind: 0 for kind, weight in (of or {}).items() if weight and kind not in in_mix},
    }:
        rows, distinct = read.get(kind, (0, 0))
        size = in_mix.get(kind, 0)
        weight = of[kind] if of else None
        kinds[kind] = KindRead(weight, rows, distinct, size, round(rows / size, 4) if size else 0.0)
    return dict(sorted(kinds.items(), key=lambda item: (-item[1].rows_seen, item[0])))


def summary(kinds: Mapping[str, KindRead]) -> list[str]:
    """Return a line for each kind, and one that says what a larger mix would change."""
    lines = [f"{'kind':<18}{'weight':>8}{'rows':>9}{'distinct':>10}{'of':>10}{'epochs':>9}"]
    for name, kind in kinds.items():
        weight = "-" if kind.weight is None else f"{kind.weight:g}"
        lines.append(
            f"{name:<18}{weight:>8}{kind.rows_seen:>9,}{kind.distinct_rows_seen:>10,}"
            f"{kind.rows_in_mix:>10,}{kind.epochs:>9.3g}"
        )
    again = [name for name, kind in kinds.items() if kind.rows_seen > kind.distinct_rows_seen]
    if again:
        lines.append(
            f"A larger data.size brings fresh rows only of kinds read more than once ({', '.join(again)}), "
            "if their sources have more."
        )
    else:
        lines.append("No kind was read more than once: a larger data.size brings other rows, not more.")
    return lines
