"""Sharing work out to ranks, the same way in every one of them."""

from collections.abc import Sequence

from sft.distributed.ranks import ALONE, Ranks


def shares(weights: Sequence[int], loads: list[int]) -> list[list[int]]:
    """Share items of these weights out to as many ranks as there are `loads`; return each one's places.

    The heaviest goes first, to the rank with the least load so far, which it is added to ("longest processing
    time first": Graham, 1969); of equal ones the first. Without loads before, every rank gets an item, where
    there are enough. Places are in ascending order.
    """
    of_rank: list[list[int]] = [[] for _ in loads]
    for place in sorted(range(len(weights)), key=lambda place: (-weights[place], place)):
        rank = loads.index(min(loads))
        of_rank[rank].append(place)
        loads[rank] += weights[place]
    return [sorted(places) for places in of_rank]


class Sharing:
    """Work that comes in several lots, shared out so that all of it together is as much for every rank."""

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self._loads = [0] * ranks.count

    def own(self, weights: Sequence[int]) -> list[int]:
        """Return which items of the next lot, of these weights, this rank does."""
        return shares(weights, self._loads)[self.ranks.rank]
