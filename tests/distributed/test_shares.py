"""Who does what: the same in every rank, each item once, and as much for each."""

from hypothesis import given
from hypothesis import strategies as st

from sft.distributed.ranks import ALONE, Ranks
from sft.distributed.shares import Sharing, shares


@given(st.lists(st.integers(1, 2048), max_size=40), st.integers(1, 8))
def test_every_item_is_one_ranks(weights, ranks):
    loads = [0] * ranks
    of_ranks = shares(weights, loads)
    assert sorted(place for places in of_ranks for place in places) == list(range(len(weights)))
    assert all(places == sorted(places) for places in of_ranks)
    assert loads == [sum(weights[place] for place in places) for places in of_ranks]
    assert all(of_ranks) == (len(weights) >= ranks)
    # Graham's bound: no rank has more than the mean and one item.
    assert max(loads) <= sum(weights) / ranks + max(weights, default=0)


def test_the_longest_goes_first_to_the_rank_with_the_least():
    loads = [0, 0, 0]
    assert shares([3, 9, 5, 4], loads) == [[1], [2], [0, 3]] and loads == [9, 5, 7]
    assert shares([2, 2], loads) == [[], [0, 1], []]  # the loads before count


def test_of_several_lots_the_ranks_have_as_much():
    """Of a lot of one item each, the ranks take turns."""
    sharings = [Sharing(Ranks(rank, 2)) for rank in range(2)]
    taken = [[sharing.own([7]) for sharing in sharings] for _ in range(4)]
    assert taken == [[[0], []], [[], [0]]] * 2
    assert Sharing(ALONE).own([3, 1, 2]) == [0, 1, 2]
