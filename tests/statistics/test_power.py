"""The smallest difference that a design can see: a new study finds it in 80% of cases."""

import numpy as np
import pytest

from sft.statistics.intervals import compare_adapters, compare_configurations
from sft.statistics.power import smallest_difference
from sft.statistics.significance import Outcome, Verdict
from sft.statistics.student import t_quantile
from tests.statistics.made_scores import an_interval, configuration, simulated

# Standard deviations of replicates, examples, interaction, decoding.
SIZES = {
    "replicates": (1, 0.3, 0.5, 0.5),
    "examples": (0.02, 1, 0.3, 0.3),
    "alike": (0.1, 0.7, 0.5, 0.7),
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("replicates", [3, 5])
@simulated(2_000)
def test_the_printed_difference_is_found_in_80_of_100_new_studies(replicates, sizes, draws):
    """On average over the studies that print it: each printed value meets every other study's noise."""
    rng = np.random.default_rng(7)
    of = SIZES[sizes]
    intervals = [
        an_interval(
            compare_configurations(*([configuration(rng, (replicates, 2, 60), 0, *of)] for _ in range(2)))
        )
        for _ in range(draws)
    ]
    noise = np.array([interval.difference for interval in intervals])
    errors = np.array([interval.standard_error for interval in intervals])
    for comparisons in (1, 50):
        some = intervals[: draws // 20]
        printed = np.array([smallest_difference(interval, comparisons) for interval in some])
        needed = errors * [t_quantile(0.05 / comparisons, interval.student) for interval in intervals]
        power = np.mean(noise + printed[:, None] > needed)
        print(f"of {comparisons}: power {power:.1%}")
        assert 0.75 - 0.02 * (draws < 2_000) <= power <= 0.85 + 0.02 * (draws < 2_000), comparisons


@simulated(2_000)
def test_of_adapters_too(draws):
    rng = np.random.default_rng(8)
    intervals = [
        an_interval(compare_adapters([rng.standard_normal((1, 16))], [np.zeros((1, 16))]))
        for _ in range(draws)
    ]
    noise = np.array([interval.difference for interval in intervals])
    for comparisons in (1, 6):
        printed = np.array([smallest_difference(of, comparisons) for of in intervals[: draws // 10]])
        needed = [t_quantile(0.05 / comparisons, of.student) * of.standard_error for of in intervals]
        power = np.mean(noise + printed[:, None] > needed)
        print(f"of {comparisons}: power {power:.1%}")
        assert 0.75 <= power <= 0.85


def test_a_share_has_none():
    """0 of 16 against 0 of 16: the added examples' variance is not that of any true difference."""
    answers = np.zeros((1, 16))
    of_share = compare_adapters([answers], [answers], share=True)
    assert Verdict(of_share, Outcome.NO_DIFFERENCE, 1.0).smallest is None


def test_it_grows_with_comparisons_and_shrinks_with_replicates():
    rng = np.random.default_rng(9)
    first, second = (configuration(rng, (8, 2, 60), 0, 0.3, 0.5, 0.3, 0.3) for _ in range(2))
    few, many = (an_interval(compare_configurations([first[:count]], [second[:count]])) for count in (3, 8))
    assert smallest_difference(few, 50) > smallest_difference(few) > smallest_difference(many)
    assert smallest_difference(few) == smallest_difference(few)
