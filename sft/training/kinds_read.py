"""The account of what was read of each kind of rows, and its lines in the stage's summary."""

from collections.abc import Mapping
from dataclasses import dataclass

from sft.training.budget import Reading
from sft.training.mixture import Weights


@dataclass
class KindRead:
    """Rows of one kind: its weight (None if proportional), the rows read, and how many epochs that is.

    `rows_available` is how many the largest mix has.
    """

    weight: float | None
    rows_seen: int
    distinct_rows_seen: int
    rows_in_mix: int
    rows_available: int
    epochs: float


def kinds_read(
    reading: Reading, in_mix: Mapping[str, int], available: Mapping[str, int], weights: Weights
) -> dict[str, KindRead]:
    """Say of each kind how much was read, by rows read.

    `in_mix` counts the mix's rows by kind, and `available` those of the largest mix. Kinds that have a weight
    but no rows in it are there too.
    """
    read = reading.by_kind()
    of = weights if isinstance(weights, dict) else None
    kinds = {}
    for kind in available:
        size, weight = in_mix.get(kind, 0), of.get(kind, 0) if of else None
        if size or weight:
            rows, distinct = read.get(kind, (0, 0))
            epochs = round(rows / size, 4) if size else 0.0
            kinds[kind] = KindRead(weight, rows, distinct, size, available[kind], epochs)
    return dict(sorted(kinds.items(), key=lambda item: (-item[1].rows_seen, item[0])))


def summary(kinds: Mapping[str, KindRead]) -> list[str]:
    """Return a line for each kind, and those that say what a larger mix would change."""
    lines = [f"{'kind':<18}{'weight':>8}{'rows':>9}{'distinct':>10}{'of':>10}{'epochs':>9}"]
    for name, kind in kinds.items():
        weight = "-" if kind.weight is None else f"{kind.weight:g}"
        lines.append(
            f"{name:<18}{weight:>8}{kind.rows_seen:>9,}{kind.distinct_rows_seen:>10,}"
            f"{kind.rows_in_mix:>10,}{kind.epochs:>9.3g}"
        )
    return lines + _of_a_larger_mix({name: kind for name, kind in kinds.items() if kind.weight != 0})


def _of_a_larger_mix(kinds: Mapping[str, KindRead]) -> list[str]:
    """Say what a larger data.size would change for these kinds, which are all that are read."""
    larger = {name: kind for name, kind in kinds.items() if kind.rows_available > kind.rows_in_mix}
    again = {name for name, kind in kinds.items() if kind.rows_seen > kind.distinct_rows_seen}
    absent = [name for name, kind in larger.items() if kind.weight and not kind.rows_in_mix]
    if not larger:
        return ["The mix has all rows of these kinds: a larger data.size brings no more of them."]
    lines = []
    if absent:
        lines.append(
            f"A larger data.size brings in, at their weights, kinds without rows here: {', '.join(absent)}."
        )
    if fresh := [name for name in larger if name in again]:
        lines.append(
            f"A larger data.size brings fresh rows of kinds read more than once: {', '.join(fresh)}."
        )
    if used_up := [name for name in kinds if name in again and name not in larger]:
        lines.append(f"Read more than once, and all its rows are in the mix: {', '.join(used_up)}.")
    if not lines:
        lines.append("No kind was read more than once: a larger data.size brings other rows, not more.")
    return lines
