"""Intervals hold the truth as often as they say, in simulated studies; the rest by known answers.

`pytest -m full -rP tests/statistics` prints the numbers that docs/intervals.md has.
"""

import itertools

import numpy as np
import pytest
from scipy.stats import kurtosis, multinomial

from sft.core.errors import UserError
from sft.statistics.intervals import Interval, Lack, Refusal, compare_adapters, compare_configurations
from tests.statistics.made_scores import (
    EPOCH,
    STEPS,
    an_interval,
    configuration,
    null_differences,
    simulated,
)

# Standard deviations of replicates, examples (that two configurations do not share), interaction, decoding.
REPLICATES_DOMINATE = (1, 0.3, 0.5, 0.5)
EXAMPLES_DOMINATE = (0.02, 1, 0.3, 0.3)
ALIKE = (0.1, 0.7, 0.5, 0.7)


def a_refusal(result: Interval | Refusal) -> Refusal:
    assert isinstance(result, Refusal)
    return result


def covers(interval: Interval, truth: float = 0.0) -> bool:
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize("replicates", [3, 5, 8])
@pytest.mark.parametrize("sizes", [REPLICATES_DOMINATE, EXAMPLES_DOMINATE, ALIKE])
@simulated(2_500)
def test_coverage_of_configurations(replicates, sizes, draws):
    rng = np.random.default_rng(1)
    covered, variances = 0, []
    for _ in range(draws):
        common = 2 * rng.standard_normal(60)
        first, second = (configuration(rng, (replicates, 2, 60), common, *sizes) for _ in range(2))
        interval = an_interval(compare_configurations([first], [second]))
        covered += covers(interval)
        variances.append(interval.standard_error**2)
    print(f"coverage {covered / draws:.1%}")
    tolerance = 0.02 if draws == 2_500 else 0.03
    # Three replicates whose luck weighs no more than the examples make it a little conservative.
    conservative = 0.005 * ((replicates, sizes) == (3, ALIKE))
    assert 0.95 - tolerance <= covered / draws <= 0.95 + tolerance + conservative
    # Of few draws this shows more: coverage hardly moves with a variance that is a tenth off.
    of_replicates, of_examples, interaction, decoding = (size**2 for size in sizes)
    by_pair = (interaction + decoding / 2) / (replicates * 60)
    true = 2 * (of_replicates / replicates + of_examples / 60 + by_pair)
    assert np.mean(variances) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("replicates", [5, 8])
@simulated(2_500)
def test_coverage_of_pairs_of_seeds(replicates, correlation, draws):
    """Replicate n of both sides shares its seeds, and so a part of its luck."""
    rng = np.random.default_rng(2)
    covered, widths = 0, []
    for _ in range(draws):
        common = 2 * rng.standard_normal(60)
        shared = np.sqrt(correlation) * rng.standard_normal((replicates, 1, 1))
        own = np.sqrt(1 - correlation)
        first, second = (
            shared + configuration(rng, (replicates, 2, 60), common, own, 0.3, 0.3, 0.3) for _ in range(2)
        )
        interval = an_interval(compare_configurations([first], [second], paired=True))
        apart = an_interval(compare_configurations([first], [second]))
        covered += covers(interval)
        widths.append((interval.high - interval.low) / (apart.high - apart.low))
    print(f"coverage {covered / draws:.1%}, width {np.mean(widths):.2f} of that of unpaired ones")
    assert covered / draws == pytest.approx(0.95, abs=0.02 if draws == 2_500 else 0.03)
    if correlation == 0.9:
        assert np.mean(widths) < 0.6  # half as wide


@pytest.mark.parametrize(("replicates", "other"), [(3, 3), (3, 8), (5, 5)])
@simulated(2_500)
def test_coverage_where_only_one_configuration_varies(replicates, other, draws):
    """As against an untrained model, or a configuration whose seeds hardly matter."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(draws):
        common = 2 * rng.standard_normal(60)
        first = configuration(rng, (replicates, 2, 60), common, 0.4, 0.4, 0.4, 0.4)
        second = configuration(rng, (1, 2, 60), common, 0, 0.4, 0, 0.4).repeat(other, axis=0)
        covered += covers(an_interval(compare_configurations([first], [second])))
    print(f"coverage {covered / draws:.1%}")
    assert covered / draws == pytest.approx(0.95, abs=0.02 if draws == 2_500 else 0.03)


@pytest.mark.parametrize("replicates", [3, 5])
@simulated(2_500)
def test_coverage_of_an_average_of_unlike_tasks(replicates, draws):
    """Tasks of 30 and of 120 examples: a replicate's luck is half its own in each task, half in both."""
    rng = np.random.default_rng(3)
    covered, variances = 0, []
    for _ in range(draws):
        sides: list[list[np.ndarray]] = []
        easy = [rng.standard_normal(count) for count in (30, 120)]
        for _ in range(2):
            luck = 0.2 * rng.standard_normal((replicates, 1, 1))
            sides.append(
                [luck + configuration(rng, (replicates, 2, len(of)), of, 0.2, 0.5, 0.3, 0.3) for of in easy]
            )
        interval = an_interval(compare_configurations(*sides))
        covered += covers(interval)
        variances.append(interval.standard_error**2)
    print(f"coverage {covered / draws:.1%}")
    assert covered / draws == pytest.approx(0.955, abs=0.025 if draws == 2_500 else 0.035)
    by_example = sum((0.25 + (0.09 + 0.045) / replicates) / count for count in (30, 120)) / 4
    true = 2 * (by_example + (0.04 + 0.04 / 2) / replicates)
    assert np.mean(variances) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize(("examples", "tolerance"), [(200, 0.02), (16, 0.025)])
@pytest.mark.parametrize("skewed", [False, True])
@simulated(2_000)
def test_coverage_of_adapters(examples, tolerance, skewed, tasks, draws):
    rng = np.random.default_rng(3)
    covered = rejected = 0
    for _ in range(draws):
        first, second = [], []
        for _ in range(tasks):
            own = rng.standard_exponential(examples) - 1 if skewed else rng.standard_normal(examples)
            difficulty = 3 * rng.standard_normal(examples)
            first.append(difficulty + own + 0.5 * rng.standard_normal((3, examples)))
            second.append(difficulty + 0.5 * rng.standard_normal((3, examples)))
            examples += 1
        examples -= tasks
        interval = an_interval(compare_adapters(first, second))
        covered += covers(interval)
        rejected += interval.p < 0.05
    print(f"coverage {covered / draws:.1%}")
    tolerance += 0.01 * (draws < 2_000)
    assert covered / draws == pytest.approx(0.95, abs=tolerance)
    assert rejected == draws - covered


@pytest.mark.parametrize(("examples", "least"), [(16, 0.90), (32, 0.905), (200, 0.93)])
@simulated(4_000)
def test_coverage_of_real_skewed_scores(examples, least, draws):
    """Examples drawn from docs/study's; their differences are skewed up to 3.5."""
    rng = np.random.default_rng(4)
    for runs in ((f"{EPOCH[0]}-0", f"{EPOCH[1]}-0"), (f"{EPOCH[0]}-0", f"{STEPS}-0")):
        for metric in ("rouge1", "nll"):
            for task, differences in null_differences(*runs, metric).items():
                covered = 0
                for _ in range(draws // 4):
                    drawn = rng.choice(differences, examples)
                    result = compare_adapters([drawn[None]], [np.zeros((1, examples))])
                    # Where all that were drawn are equal it says nothing.
                    covered += isinstance(result, Refusal) or covers(result)
                print(f"{runs[1]}, {task}, {metric}: coverage {covered / (draws // 4):.1%}")
                assert covered / (draws // 4) >= least - 0.02 * (draws < 4_000), (runs, task, metric)


RARE = (0.0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08)


@pytest.mark.parametrize("examples", [16, 32, 64, 200])
def test_coverage_of_shares_by_every_outcome(examples):
    """At least 93% at every rate of examples that one side alone gets right: the exact sum, not simulated."""
    least = 1.0
    won, lost = np.meshgrid(range(examples + 1), range(examples + 1))
    for first, second in itertools.product((*RARE, 0.15, 0.3, 0.5, 0.7), (0.0, 0.01, 0.05, 0.2)):
        probability = multinomial.pmf(
            np.stack([won, lost, examples - won - lost], axis=-1),
            examples,
            [first, second, 1 - first - second],
        )
        covered = 0.0
        for ones, zeros in zip(*np.nonzero(probability > 1e-6), strict=True):
            answers = np.repeat([1.0, -1.0, 0.0], [zeros, ones, examples - zeros - ones])
            result = compare_adapters([answers[None]], [np.zeros((1, examples))], share=True)
            covered += probability[ones, zeros] * covers(an_interval(result), first - second)
        least = min(least, covered)
        assert covered >= 0.93, (first, second)
    print(f"coverage at least {least:.1%}")


@pytest.mark.parametrize("examples", [16, 200])
# Whether examples are all alike, or half of them harder.
@pytest.mark.parametrize("unlike", [False, True])
@simulated(8_000)
def test_coverage_of_shares_averaged_over_runs(unlike, examples, draws):
    """At least 93% at every pair of rates, 0 against 0 included; hard examples are hard for both sides."""
    rng, least = np.random.default_rng(5), 1.0
    pairs = list(itertools.combinations_with_replacement((*RARE, 0.1, 0.15, 0.2, 0.3, 0.5), 2))
    pairs += [(1 - high, 1 - low) for low, high in pairs]
    for low, high in pairs if draws == 8_000 else pairs[::12]:
        covered = 0
        hard = rng.random((draws, examples)) < 0.5
        first, second = (
            rng.binomial(3, np.where(hard, rate**2, rate * (2 - rate)) if unlike else rate, hard.shape) / 3
            for rate in (low, high)
        )
        for one, two in zip(first, second, strict=True):
            covered += covers(an_interval(compare_adapters([one[None]], [two[None]], share=True)), low - high)
        least = min(least, covered / draws)
        assert covered / draws >= 0.93 - 0.012 * (draws < 8_000), (low, high)
    print(f"coverage at least {least:.1%}")


@pytest.mark.parametrize("examples", [16, 200])
@pytest.mark.parametrize("replicates", [3, 5])
@simulated(1_000)
def test_coverage_of_shares_of_configurations(replicates, examples, draws):
    """Each training has its own rate, about a seventh above or below that of its configuration."""
    rng, least = np.random.default_rng(6), 1.0
    rates = (0.0, 0.03, 0.15, 0.3, 0.5)
    for low, high in itertools.combinations_with_replacement(rates, 2):
        covered = 0
        for _ in range(draws):
            hard = rng.random(examples) < 0.5
            sides = []
            for rate in (low, high):
                luck = rng.normal(1, 0.15, (replicates, 1, 1)).clip(0.5, 1.5)
                of_example = rate * luck * np.where(hard, 0.8, 1.2)
                sides.append([(rng.random((replicates, 3, examples)) < of_example).astype(float)])
            truth = low - high
            covered += covers(an_interval(compare_configurations(*sides, share=True)), truth)
        least = min(least, covered / draws)
        assert covered / draws >= 0.93 - 0.02 * (draws < 1_000), (low, high)
    print(f"coverage at least {least:.1%}")


def test_skewed_differences_have_fewer_degrees_of_freedom():
    """Of n differences of excess kurtosis g the variance has 2 / (g / n + 2 / (n - 1)) (Shoemaker 2003)."""
    n = 40
    values = np.zeros(n)
    values[:2] = 1.0  # rare ones decide
    # The estimate of the excess is Fisher's, as in scipy's kurtosis(bias=False).
    excess = float(kurtosis(values, bias=False))
    assert excess > 10
    found = an_interval(compare_adapters([values[None]], [np.zeros((1, n))]))
    assert found.examples.df == pytest.approx(2 / (excess / n + 2 / (n - 1)))
    # Of flat ones it is never more than n - 1; normal ones have nearly that.
    flat = np.tile([0.0, 1.0], n // 2)
    assert an_interval(compare_adapters([flat[None]], [np.zeros((1, n))])).examples.df == n - 1
    normal = np.random.default_rng(1).standard_normal(4_000)
    assert an_interval(compare_adapters([normal[None]], [0 * normal[None]])).examples.df > 3_500


def test_no_success_on_either_side_is_no_certainty():
    none = np.zeros((3, 16))
    interval = an_interval(compare_adapters([none], [none], share=True))
    assert (interval.difference, interval.p) == (0, 1)
    assert -0.2 < interval.low < -0.1 and interval.high == -interval.low
    several = np.zeros((3, 3, 16))
    assert an_interval(compare_configurations([several], [several], share=True)).high > 0.1
    # An interval of a share ends where a share does.
    interval = an_interval(compare_adapters([none + 1], [none], share=True))
    assert interval.high == 1 and 0.6 < interval.low < 0.8 and interval.p < 1e-6


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_scores_that_do_not_vary_are_refused(shift):
    """As ROUGE of answers that are all empty, or a metric that counts every answer alike."""
    scores = np.broadcast_to(np.linspace(0, 1, 20), (3, 2, 20))
    for result in (
        compare_configurations([scores + shift], [scores]),
        compare_adapters([scores[0] + shift], [scores[0]]),
    ):
        assert a_refusal(result) == Refusal(pytest.approx(shift), Lack.VARIANCE, 0)


def test_a_planted_difference_of_adapters_is_found():
    rng = np.random.default_rng(6)
    difficulty = rng.standard_normal(100)
    first, second = (difficulty + gain + 0.1 * rng.standard_normal((3, 100)) for gain in (0.5, 0.45))
    interval = an_interval(compare_adapters([first], [second]))
    assert interval.low < interval.difference < interval.high
    assert interval.difference == pytest.approx(0.05, abs=0.03)
    assert interval.low > 0 > an_interval(compare_adapters([second], [first])).high
    # Without the pairing by example, the examples' difficulties would hide it.
    assert interval.standard_error < 0.02


def test_one_failed_training_of_ten_breaks_the_promise():
    """Documented, not mended: a few replicates mostly hold none of the failed ones, and look alike."""
    rng = np.random.default_rng(9)
    for replicates in (3, 5, 8):
        covered = 0
        for _ in range(400):
            failed = rng.random((replicates, 1, 1)) < 0.1
            easy = 0.1 * rng.standard_normal(200)
            first, second = (
                configuration(rng, (replicates, 1, 200), easy, 0.003, 0, 0.003, 0) for _ in range(2)
            )
            first -= 0.1 * (failed - 0.1)
            covered += covers(an_interval(compare_configurations([first], [second])))
        print(f"{replicates} replicates: coverage {covered / 400:.0%}")
        assert covered / 400 < 0.7


def test_too_few_replicates_or_examples_are_refused():
    rng = np.random.default_rng(8)
    one, two, three = (rng.standard_normal((replicates, 3, 50)) for replicates in (1, 2, 3))
    difference = pytest.approx(one.mean() - three.mean())
    assert compare_configurations([one], [three]) == Refusal(difference, Lack.REPLICATES, 1)
    assert a_refusal(compare_configurations([three], [two])).count == 2
    assert an_interval(compare_configurations([three], [three[::-1] + 1.0 * three]))
    few = a_refusal(compare_configurations([three, three[..., :15]], [three, three[..., :15]]))
    assert (few.lack, few.count) == (Lack.EXAMPLES, 15)
    difference = pytest.approx((one[0, :, 0] - two[0, :, 0]).mean())
    refused = compare_adapters([one[0, :, :1]], [two[0, :, :1]])
    assert refused == Refusal(difference, Lack.EXAMPLES, 1)
    with pytest.raises(UserError, match="20 examples cannot be compared with 21"):
        compare_adapters([np.zeros((1, 20))], [np.zeros((1, 21))])
