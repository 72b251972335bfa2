"""Bins of lengths that break at the limit."""

import pytest

from sft.plotting.lengths import Bin, bins, histogram


@pytest.mark.parametrize("limit", [1, 2, 5, 45, 100, 511, 512, 513, 9000])
def test_no_bin_has_lengths_on_both_sides_of_the_limit(limit):
    lengths = [3, 40, 45, 46, 99, 100, 101, 511, 512, 513, 700]
    counted = bins(lengths, limit)
    assert [one.low for one in counted[1:]] == [one.high + 1 for one in counted[:-1]]
    assert sum(one.rows for one in counted) == len(lengths)
    for one in counted:
        assert one.rows == sum(one.low <= length <= one.high for length in lengths)
    over = sum(length > limit for length in lengths)
    assert sum(one.rows for one in counted if one.low > limit) == over
    assert counted[0].rows and counted[-1].rows


def test_equal_lengths():
    assert bins([7, 7], 512) == [Bin(6, 7, 2)]


def test_equal_numbers_give_equal_files(tmp_path):
    for name in ("one.png", "two.png"):
        histogram(tmp_path / name, [3, 40, 700], 512, "recipes")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
