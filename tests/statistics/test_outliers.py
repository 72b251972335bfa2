"""Replicates that lie far out: a failed training is found, and chance hardly ever is."""

import numpy as np

from sft.statistics.outliers import far_out


def test_a_failed_training_is_found():
    good = [np.array([1.20, 1.21, 1.19]), np.array([1.15, 1.16, 1.17])]
    assert far_out(good) == []
    assert far_out([good[0], np.array([1.15, 3.0, 1.17])]) == [(1, 1)]
    # Of two nobody knows which.
    assert far_out([good[0], np.array([1.15, 3.0])]) == []
    assert far_out([np.array([1.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0])]) == [(1, 2)]


def test_hardly_ever_of_equal_trainings():
    rng = np.random.default_rng(1)
    found = sum(bool(far_out(list(rng.standard_normal((4, 3))))) for _ in range(2_000))
    assert found / 2_000 <= 0.06


def test_hardly_ever_of_configurations_that_scatter_unlike():
    rng = np.random.default_rng(2)
    for size in (3, 5):
        found = sum(
            bool(far_out([std * rng.standard_normal(size) for std in (1, 1, 1, 10)])) for _ in range(1_000)
        )
        assert found / 1_000 <= 0.08


def test_of_a_single_group():
    assert far_out([np.array([1.0, 1.1, 0.9, 1.05, 9.0])]) == [(0, 4)]
    assert far_out([np.array([1.0])]) == []
