"""Intervals hold the truth as often as they say, in simulated studies; the rest by known answers."""

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.study.intervals import (
    Interval,
    Refusal,
    across_tasks,
    aligned,
    by_example,
    compare_adapters,
    compare_configurations,
    decoding_std,
    holm,
    smallest_difference,
    variance_shares,
    verdicts,
)


def an_interval(result: Interval | Refusal) -> Interval:
    assert isinstance(result, Interval)
    return result


def a_refusal(result: Interval | Refusal) -> Refusal:
    assert isinstance(result, Refusal)
    return result


def configuration(rng, shape, common, replicate, example, interaction, decoding):
    """Scores of one configuration whose true mean over replicates and examples is 0; sizes are std.

    `common` are the examples' difficulties, which all configurations share.
    """
    replicates, _, examples = shape
    return (
        common
        + example * rng.standard_normal(examples)
        + replicate * rng.standard_normal((replicates, 1, 1))
        + interaction * rng.standard_normal((replicates, 1, examples))
        + decoding * rng.standard_normal(shape)
    )


# Standard deviations of replicates, examples (that two configurations do not share), interaction, decoding.
REPLICATES_DOMINATE = (1, 0.3, 0.5, 0.5)
EXAMPLES_DOMINATE = (0.02, 1, 0.3, 0.3)
ALIKE = (0.1, 0.7, 0.5, 0.7)


@pytest.mark.parametrize("replicates", [3, 5, 8])
@pytest.mark.parametrize("sizes", [REPLICATES_DOMINATE, EXAMPLES_DOMINATE, ALIKE])
def test_coverage_of_configurations(replicates, sizes):
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2_500):
        common = 2 * rng.standard_normal(60)
        first, second = (configuration(rng, (replicates, 2, 60), common, *sizes) for _ in range(2))
        interval = an_interval(compare_configurations(first, second))
        covered += interval.low <= 0 <= interval.high
    # Three replicates whose luck weighs no more than the examples make it a little conservative.
    assert 0.93 <= covered / 2_500 <= (0.975 if (replicates, sizes) == (3, ALIKE) else 0.97)


@pytest.mark.parametrize(("replicates", "other"), [(3, 3), (3, 8), (5, 5)])
def test_coverage_where_only_one_configuration_varies(replicates, other):
    """As against an untrained model, or a configuration whose seeds hardly matter."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(2_500):
        common = 2 * rng.standard_normal(60)
        first = configuration(rng, (replicates, 2, 60), common, 0.4, 0.4, 0.4, 0.4)
        second = configuration(rng, (1, 2, 60), common, 0, 0.4, 0, 0.4).repeat(other, axis=0)
        interval = an_interval(compare_configurations(first, second))
        covered += interval.low <= 0 <= interval.high
    assert covered / 2_500 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("examples", "tolerance"), [(200, 0.02), (16, 0.025)])
@pytest.mark.parametrize("skewed", [False, True])
def test_coverage_of_adapters(examples, tolerance, skewed):
    rng = np.random.default_rng(3)
    covered = rejected = 0
    for seed in range(2_000):
        own = rng.standard_exponential(examples) - 1 if skewed else rng.standard_normal(examples)
        difficulty = 3 * rng.standard_normal(examples)
        first = difficulty + own + 0.5 * rng.standard_normal((3, examples))
        second = difficulty + 0.5 * rng.standard_normal((3, examples))
        interval = an_interval(compare_adapters(first, second, seed, 1_000))
        covered += interval.low <= 0 <= interval.high
        rejected += interval.p < 0.05
    assert covered / 2_000 == pytest.approx(0.95, abs=tolerance)
    assert rejected / 2_000 == pytest.approx(0.05, abs=tolerance)


def study(rng, replicates, gain=0.0, base=False, examples=60):
    """Every comparison of a report: three sizes (the first gains) pairwise, four tasks, three metrics.

    The metrics are correlated at 0.8, and a replicate's luck is half the task's. With `base` the sizes are
    compared with an untrained model instead.
    """

    def scores(size):
        luck = rng.standard_normal((replicates, 1, 1, 1, 1)) + rng.standard_normal((replicates, 4, 1, 1, 1))
        shared = rng.standard_normal((replicates, 4, 1, 1, examples))
        own = rng.standard_normal((replicates, 4, 3, 1, examples))
        return 0.02 * luck + 0.1 * (0.8**0.5 * shared + 0.2**0.5 * own) + gain * (size == 0)

    common = 0.2 * rng.standard_normal((4, 3, 1, examples))
    sizes = [common + scores(size) for size in range(3)]
    pairs = [(sizes[0], sizes[1]), (sizes[0], sizes[2]), (sizes[1], sizes[2])]
    if base:
        untrained = np.broadcast_to(common + 0.05 * rng.standard_normal(common.shape), sizes[0].shape)
        pairs = [(size, untrained) for size in sizes]
    return [
        compare_configurations(first[:, task, metric], second[:, task, metric])
        for first, second in pairs
        for task in range(4)
        for metric in range(3)
    ]


@pytest.mark.parametrize("base", [False, True])
def test_family_wise_false_positives(base):
    rng = np.random.default_rng(4)
    wrong = sum(
        any(verdict.words in ("better", "worse") for verdict in verdicts(study(rng, 3, base=base)))
        for _ in range(1_000)
    )
    assert wrong / 1_000 <= 0.06


def test_a_planted_difference_is_found():
    found = [verdict.words for verdict in verdicts(study(np.random.default_rng(5), 8, gain=0.3))]
    assert found[:24] == ["better"] * 24
    assert all(words.startswith("no difference that this design can see") for words in found[24:])
    found = [verdict.words for verdict in verdicts(study(np.random.default_rng(5), 8, gain=-0.3))]
    assert found[:24] == ["worse"] * 24


def test_a_planted_difference_of_adapters_is_found():
    rng = np.random.default_rng(6)
    difficulty = rng.standard_normal(100)
    first, second = (difficulty + gain + 0.1 * rng.standard_normal((3, 100)) for gain in (0.5, 0.45))
    interval = an_interval(compare_adapters(first, second, seed=1))
    assert interval.low < interval.difference < interval.high
    assert interval.difference == pytest.approx(0.05, abs=0.03)
    assert [verdict.words for verdict in verdicts([interval])] == ["better"]
    assert verdicts([compare_adapters(second, first, seed=1)])[0].words == "worse"
    # Without the pairing by example, the examples' difficulties would hide it.
    assert interval.standard_error < 0.02
    assert compare_adapters(first, second, seed=1) == interval != compare_adapters(first, second, seed=2)


def test_the_smallest_difference_is_found_in_80_of_100_studies():
    rng = np.random.default_rng(7)
    sizes = (0.3, 0.5, 0.3, 0.3)

    def draw(gain):
        first, second = (configuration(rng, (5, 2, 60), 0, *sizes) for _ in range(2))
        return an_interval(compare_configurations(first + gain, second))

    smallest = np.mean([smallest_difference(draw(0)) for _ in range(1_000)])
    assert np.mean([draw(smallest).p < 0.05 for _ in range(2_000)]) == pytest.approx(0.8, abs=0.04)


def test_smallest_difference():
    interval = Interval(0.0, -1.0, 1.0, 1.0, standard_error=0.01, student={4: 1.0})
    assert smallest_difference(interval) == pytest.approx((2.77645 + 0.940965) * 0.01, rel=1e-5)
    assert smallest_difference(interval, comparisons=5) == pytest.approx(
        (4.60409 + 0.940965) * 0.01, rel=1e-5
    )


def test_too_few_replicates_or_examples_are_refused():
    rng = np.random.default_rng(8)
    one, two, three = (rng.standard_normal((replicates, 3, 50)) for replicates in (1, 2, 3))
    assert a_refusal(compare_configurations(one, three)).reason == "1 replicate"
    assert a_refusal(compare_configurations(three, two)).reason == "2 replicates"
    assert an_interval(compare_configurations(three, three))
    assert a_refusal(compare_configurations(three[..., :15], three[..., :15])).reason == "15 examples"
    refused = a_refusal(compare_adapters(one[0, :, :1], two[0, :, :1], seed=1))
    assert refused.reason == "1 example"
    assert refused.difference == pytest.approx((one[0, :, 0] - two[0, :, 0]).mean())
    found = verdicts([compare_configurations(one, three), Interval(0.1, 0.05, 0.15, 0.001, 0.02, {30: 1.0})])
    assert [verdict.words for verdict in found] == ["nothing can be said: 1 replicate", "better"]
    # A comparison that was refused corrects no other.
    assert [verdict.p for verdict in found] == [None, 0.001]


def test_equal_scores():
    scores = np.broadcast_to(np.linspace(0, 1, 20), (3, 2, 20))
    for result in (compare_configurations(scores, scores), compare_adapters(scores[0], scores[0], 1, 100)):
        interval = an_interval(result)
        assert (interval.difference, interval.low, interval.high, interval.p) == (0, 0, 0, 1)
        assert verdicts([interval])[0].words.startswith("no difference")


def test_holm():
    # Four: 0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.04 x 1, none below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_verdicts_are_corrected():
    intervals = [Interval(-0.02, -0.04, -0.001, p, 0.01, {100: 1.0}) for p in (0.04, 0.001)]
    assert verdicts(intervals[:1])[0].words == "worse"
    first, second = verdicts([*intervals, *intervals[:1]])[:2]
    assert first.words == f"no difference that this design can see (smallest it could: {first.smallest:.4f})"
    assert second.words == "worse"
    assert first.smallest == smallest_difference(intervals[0], 3)


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
        compare_adapters(np.zeros((1, 20)), np.zeros((1, 21)), seed=1)


@pytest.mark.parametrize("rows", [ROWS[1:], [*ROWS, ROWS[0]], ROWS[4:]])
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
