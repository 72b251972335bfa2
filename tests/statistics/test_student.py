"""Student's t: printed tables, closed forms, mixtures."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from sft.statistics.student import t_p_value, t_quantile, t_quantiles


@pytest.mark.parametrize(
    ("p", "df", "t"),
    [(0.05, 1, 12.7062), (0.05, 4, 2.77645), (0.01, 10, 3.16927), (0.4, 4, 0.940965), (0.001, 30, 3.64596)],
)
def test_as_in_printed_tables(p, df, t):
    assert t_quantile(p, {df: 1.0}) == pytest.approx(t, rel=1e-5)
    assert t_p_value(t, {df: 1.0}) == pytest.approx(p, rel=1e-4)


def test_closed_forms():
    for t in (0.0, 0.01, 0.7, 3.0, 50.0):
        assert t_p_value(t, {1: 1.0}) == pytest.approx(1 - 2 * math.atan(t) / math.pi)
        assert t_p_value(-t, {2: 1.0}) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)
    assert t_quantile(0.05, {1e7: 1.0}) == pytest.approx(NormalDist().inv_cdf(0.975), rel=1e-6)


def test_p_has_no_floor():
    """Resampling's has: 50,000 resamples show no p below 1/50,000, whatever the difference is."""
    assert 0 < t_p_value(30, {15: 1.0}) < 1e-13


def test_the_quantile_inverts_p():
    for df in (1.5, 2.7, 3.3, 77.7):
        for p in (0.9, 0.05, 0.0014, 1e-6):
            assert t_p_value(t_quantile(p, {df: 1.0}), {df: 1.0}) == pytest.approx(p, rel=1e-7)


def test_mixtures():
    mixture = {2.0: 0.3, 50.0: 0.7}
    assert t_p_value(3.0, mixture) == pytest.approx(
        0.3 * t_p_value(3.0, {2: 1.0}) + 0.7 * t_p_value(3.0, {50: 1.0})
    )
    for p in (0.4, 0.05, 0.0014):
        assert t_quantile(p, {2: 1.0}) > t_quantile(p, mixture) > t_quantile(p, {50: 1.0})
        assert t_p_value(t_quantile(p, mixture), mixture) == pytest.approx(p)
        many = t_quantiles(p, np.array([2.0, 2.0, 3.0]), 50.0, np.array([0.3, 0.0, 1.0]))
        expected = [t_quantile(p, of) for of in (mixture, {50.0: 1.0}, {3.0: 1.0})]
        assert many == pytest.approx(expected)
    assert t_quantile(0.05, {2.0: 0.0, 50.0: 1.0}) == pytest.approx(t_quantile(0.05, {50.0: 1.0}))
