"""Intervals hold the truth as often as they say, in simulated studies; the rest by known answers."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.statistics.intervals import (
    Interval,
    Lack,
    Refusal,
    across_tasks,
    aligned,
    by_example,
    compare_adapters,
    compare_configurations,
    decoding_std,
    t_p_value,
    t_quantile,
    variance_shares,
)
from tests.study.made_results import an_interval, configuration, simulated


def a_refusal(result: Interval | Refusal) -> Refusal:
    assert isinstance(result, Refusal)
    return result


# Standard deviations of replicates, examples (that two configurations do not share), interaction, decoding.
REPLICATES_DOMINATE = (1, 0.3, 0.5, 0.5)
EXAMPLES_DOMINATE = (0.02, 1, 0.3, 0.3)
ALIKE = (0.1, 0.7, 0.5, 0.7)


@pytest.mark.parametrize("replicates", [3, 5, 8])
@pytest.mark.parametrize("sizes", [REPLICATES_DOMINATE, EXAMPLES_DOMINATE, ALIKE])
@simulated(2_500)
def test_coverage_of_configurations(replicates, sizes, draws):
    rng = np.random.default_rng(1)
    covered, variances = 0, []
    for _ in range(draws):
        common = 2 * rng.standard_normal(60)
        first, second = (configuration(rng, (replicates, 2, 60), common, *sizes) for _ in range(2))
        interval = an_interval(compare_configurations(first, second))
        covered += interval.low <= 0 <= interval.high
        variances.append(interval.standard_error**2)
    tolerance = 0.02 if draws == 2_500 else 0.03
    # Three replicates whose luck weighs no more than the examples make it a little conservative.
    conservative = 0.005 * ((replicates, sizes) == (3, ALIKE))
    assert 0.95 - tolerance <= covered / draws <= 0.95 + tolerance + conservative
    # Of few draws this shows more: coverage hardly moves with a variance that is a tenth off.
    of_replicates, of_examples, interaction, decoding = (size**2 for size in sizes)
    by_pair = (interaction + decoding / 2) / (replicates * 60)
    true = 2 * (of_replicates / replicates + of_examples / 60 + by_pair)
    assert np.mean(variances) == pytest.approx(true, rel=0.05)


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
        interval = an_interval(compare_configurations(first, second))
        covered += interval.low <= 0 <= interval.high
    assert covered / draws == pytest.approx(0.95, abs=0.02 if draws == 2_500 else 0.03)


@pytest.mark.parametrize(("examples", "tolerance"), [(200, 0.02), (16, 0.025)])
@pytest.mark.parametrize("skewed", [False, True])
@simulated(2_000)
def test_coverage_of_adapters(examples, tolerance, skewed, draws):
    rng = np.random.default_rng(3)
    covered = rejected = 0
    widths = []
    for _ in range(draws):
        own = rng.standard_exponential(examples) - 1 if skewed else rng.standard_normal(examples)
        difficulty = 3 * rng.standard_normal(examples)
        first = difficulty + own + 0.5 * rng.standard_normal((3, examples))
        second = difficulty + 0.5 * rng.standard_normal((3, examples))
        interval = an_interval(compare_adapters([first], [second]))
        covered += interval.low <= 0 <= interval.high
        rejected += interval.p < 0.05
        each = (first - second).mean(axis=0)
        students = 2 * t_quantile(0.05, {examples - 1: 1.0}) * each.std(ddof=1) / math.sqrt(examples)
        widths.append((interval.high - interval.low) / students)
    tolerance += 0.01 * (draws < 2_000)
    assert covered / draws == pytest.approx(0.95, abs=tolerance)
    assert rejected / draws == pytest.approx(0.05, abs=tolerance)
    assert np.mean(widths) == pytest.approx(1, abs=0.03)  # shows more than coverage does, of few draws


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


def test_too_few_replicates_or_examples_are_refused():
    rng = np.random.default_rng(8)
    one, two, three = (rng.standard_normal((replicates, 3, 50)) for replicates in (1, 2, 3))
    difference = pytest.approx(one.mean() - three.mean())
    assert compare_configurations(one, three) == Refusal(difference, Lack.REPLICATES, 1)
    assert a_refusal(compare_configurations(three, two)).count == 2
    assert an_interval(compare_configurations(three, three))
    few = a_refusal(compare_configurations(three[..., :15], three[..., :15]))
    assert (few.lack, few.count) == (Lack.EXAMPLES, 15)
    difference = pytest.approx((one[0, :, 0] - two[0, :, 0]).mean())
    refused = compare_adapters([one[0, :, :1]], [two[0, :, :1]])
    assert refused == Refusal(difference, Lack.EXAMPLES, 1)


def test_equal_scores():
    scores = np.broadcast_to(np.linspace(0, 1, 20), (3, 2, 20))
    for result in (compare_configurations(scores, scores), compare_adapters([scores[0]], [scores[0]])):
        interval = an_interval(result)
        assert (interval.difference, interval.low, interval.high, interval.p) == (0, 0, 0, 1)


def row(example, run, score, task="recipe"):
    return {"task": task, "run": run, "id": example, "rouge1": score}


ROWS = [row("a", 0, 0.1), row("b", 0, 0.2), row("a", 1, 0.3), row("b", 1, 0.4), row("a", 0, 0.9, "question")]


def test_examples_are_matched_by_id():
    scores = by_example(ROWS, "recipe", "rouge1")
    assert scores == {"a": [0.1, 0.3], "b": [0.2, 0.4]}
    found = aligned({"x": scores, "y": dict(reversed(scores.items()))})
    np.testing.assert_array_equal(found["x"], [[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_array_equal(found["y"], found["x"])


def test_other_examples_are_an_error():
    with pytest.raises(
        UserError, match=r"x and y do not hold the same.* 1 are in x only and 2 in y only \('b'"
    ):
        aligned({"x": {"a": [1], "b": [1]}, "y": {"a": [1], "c": [1], "d": [1]}})
    with pytest.raises(UserError, match=r"0 are in x only and 1 in y only \('b' for one\)"):
        aligned({"x": {"a": [1]}, "y": {"a": [1], "b": [1]}})
    with pytest.raises(UserError, match="20 examples cannot be compared with 21"):
        compare_adapters([np.zeros((1, 20))], [np.zeros((1, 21))])


# The last has one answer twice and lacks another: as many as there should be.
@pytest.mark.parametrize("rows", [ROWS[1:], [*ROWS, ROWS[0]], ROWS[4:], [ROWS[1], *ROWS[1:]]])
def test_missing_and_doubled_answers_are_an_error(rows):
    with pytest.raises(UserError, match="'recipe'"):
        by_example(rows, "recipe", "rouge1")


def test_across_tasks():
    rng = np.random.default_rng(9)
    tasks = [level + rng.standard_normal((3, 2, 2_000)) for level in (0, 10)]
    average = across_tasks(tasks)
    assert average.mean() == pytest.approx(np.mean([task.mean() for task in tasks]))
    # How far apart the tasks lie is no variance of the average.
    assert average.std() == pytest.approx(0.5**0.5, rel=0.05)
    with pytest.raises(UserError, match=r"\[3, 4\] examples"):
        across_tasks([np.zeros((1, 3)), np.zeros((1, 4))])


def test_decoding_std():
    # Means over examples of 0.2, 0.3 and 0.4.
    assert decoding_std(np.array([[0.1, 0.3], [0.3, 0.3], [0.0, 0.8]])) == pytest.approx(0.1)
    assert decoding_std(np.array([[0.1, 0.3]])) is None


@pytest.mark.parametrize("decoding_is_shared", [False, True])
def test_variance_shares(decoding_is_shared):
    """Seeded decoding noise of an example may be alike in all replicates: it is decoding's all the same."""
    rng = np.random.default_rng(10)
    shape = (40, 10, 200)
    noise = 4 * rng.standard_normal((1, *shape[1:]) if decoding_is_shared else shape)
    scores = configuration(rng, shape, 3 * rng.standard_normal(200), 0.3, 0, 2, 0) + noise
    parts = {"decoding": 16 / 200, "replicates": 0.09 + 4 / 200, "examples": 9 / 200}
    total = sum(parts.values())
    assert variance_shares(scores) == pytest.approx(
        {name: part / total for name, part in parts.items()}, abs=0.06
    )


def test_variance_shares_of_one_source():
    examples = np.broadcast_to(np.arange(20.0), (3, 2, 20))
    assert variance_shares(examples) == pytest.approx({"decoding": 0, "replicates": 0, "examples": 1})
    replicates = np.broadcast_to(np.arange(3.0)[:, None, None], (3, 2, 20))
    assert variance_shares(replicates) == pytest.approx({"decoding": 0, "replicates": 1, "examples": 0})
    assert variance_shares(examples[:1]) is None
    assert variance_shares(np.ones((3, 2, 20))) is None


@pytest.mark.parametrize(
    ("p", "df", "t"),
    [(0.05, 1, 12.7062), (0.05, 4, 2.77645), (0.01, 10, 3.16927), (0.4, 4, 0.940965), (0.001, 30, 3.64596)],
)
def test_students_t_as_in_printed_tables(p, df, t):
    assert t_quantile(p, {df: 1.0}) == pytest.approx(t, rel=1e-5)
    assert t_p_value(t, {df: 1.0}) == pytest.approx(p, rel=1e-4)


def test_students_t_in_closed_forms():
    for t in (0.0, 0.01, 0.7, 3.0, 50.0):
        assert t_p_value(t, {1: 1.0}) == pytest.approx(1 - 2 * math.atan(t) / math.pi)
        assert t_p_value(-t, {2: 1.0}) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)
    assert t_quantile(0.05, {1e7: 1.0}) == pytest.approx(NormalDist().inv_cdf(0.975), rel=1e-6)


def test_the_quantile_inverts_p():
    for df in (1.5, 2.7, 3.3, 77.7):
        for p in (0.9, 0.05, 0.0014, 1e-6):
            assert t_p_value(t_quantile(p, {df: 1.0}), {df: 1.0}) == pytest.approx(p, rel=1e-7)


def test_mixtures_of_students_t():
    mixture = {2.0: 0.3, 50.0: 0.7}
    assert t_p_value(3.0, mixture) == pytest.approx(
        0.3 * t_p_value(3.0, {2: 1.0}) + 0.7 * t_p_value(3.0, {50: 1.0})
    )
    for p in (0.4, 0.05, 0.0014):
        assert t_quantile(p, {2: 1.0}) > t_quantile(p, mixture) > t_quantile(p, {50: 1.0})
        assert t_p_value(t_quantile(p, mixture), mixture) == pytest.approx(p)
    assert t_quantile(0.05, {2.0: 0.0, 50.0: 1.0}) == pytest.approx(t_quantile(0.05, {50.0: 1.0}))
