"""What ranks tell each other, and what a rank alone tells itself."""

import os

import pytest
import torch

from sft.distributed import ranks
from sft.distributed.ranks import ALONE, PeerLost
from tests.ranks import in_ranks


def exchanged(among):
    return (
        among.any(False, among.rank == 1, among.first, True),
        among.least(5 - among.rank),
        among.gather({"rank": among.rank}),
        among.from_first(among.rank if among.rank else "first"),
    )


def test_what_ranks_tell_each_other():
    expected = ((False, True, True, True), 4, [{"rank": 0}, {"rank": 1}], "first")
    assert in_ranks(exchanged) == [expected] * 2


def test_alone_everything_is_what_it_was():
    tensor = torch.ones(2)
    ALONE.add(tensor)
    ALONE.check_equal([tensor])
    assert tensor.tolist() == [1, 1] and ALONE.first
    assert ALONE.any(True, False) == (True, False) and ALONE.least(3) == 3
    assert ALONE.gather("a") == ["a"] and ALONE.from_first("a") == "a"


def lonely(among):
    """Leave the other rank, or notice that it has left."""
    if not among.first:
        return ""
    try:
        among.gather(0)
    except PeerLost as lost:
        return str(lost)
    return "nothing"


def test_a_rank_that_is_gone_is_noticed():
    of_first, _ = in_ranks(lonely)
    assert of_first and of_first != "nothing" and "pair.cc" not in of_first


@pytest.mark.parametrize(
    ("visible", "seen"), [(None, "1"), ("4,7", "7"), ("GPU-a,GPU-b", "GPU-b"), ("3", "3"), ("", "")]
)
def test_a_rank_sees_its_own_gpu(monkeypatch, visible, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    ranks._see_one_gpu(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
