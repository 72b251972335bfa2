"""Student's t against the printed tables and the closed forms of 1 and 2 degrees of freedom."""

import math
from statistics import NormalDist

import pytest

from sft.study.student import p_value, quantile


@pytest.mark.parametrize(
    ("p", "df", "t"),
    [(0.05, 1, 12.7062), (0.05, 4, 2.77645), (0.01, 10, 3.16927), (0.4, 4, 0.940965), (0.001, 30, 3.64596)],
)
def test_tables(p, df, t):
    assert quantile(p, {df: 1.0}) == pytest.approx(t, rel=1e-5)
    assert p_value(t, {df: 1.0}) == pytest.approx(p, rel=1e-4)


def test_closed_forms():
    for t in (0.0, 0.01, 0.7, 3.0, 50.0):
        assert p_value(t, {1: 1.0}) == pytest.approx(1 - 2 * math.atan(t) / math.pi)
        assert p_value(t, {2: 1.0}) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)
        assert p_value(-t, {2: 1.0}) == p_value(t, {2: 1.0})


def test_many_degrees_of_freedom_are_the_normal():
    assert quantile(0.05, {1e7: 1.0}) == pytest.approx(NormalDist().inv_cdf(0.975), rel=1e-6)


def test_the_quantile_inverts_p_between_whole_degrees_of_freedom():
    for df in (1.5, 2.7, 3.3, 77.7):
        for p in (0.9, 0.05, 0.0014, 1e-6):
            assert p_value(quantile(p, {df: 1.0}), {df: 1.0}) == pytest.approx(p, rel=1e-7)


def test_mixtures():
    mixture = {2.0: 0.3, 50.0: 0.7}
    assert p_value(3.0, mixture) == pytest.approx(
        0.3 * p_value(3.0, {2: 1.0}) + 0.7 * p_value(3.0, {50: 1.0})
    )
    for p in (0.4, 0.05, 0.0014):
        assert quantile(p, {2: 1.0}) > quantile(p, mixture) > quantile(p, {50: 1.0})
        assert p_value(quantile(p, mixture), mixture) == pytest.approx(p)
