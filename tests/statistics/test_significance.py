"""Verdicts: hardly any on equal things, the planted differences found, the correction by known answers."""

import numpy as np
import pytest

from sft.statistics.intervals import Interval, Lack, Refusal, compare_configurations
from sft.statistics.significance import Outcome, Verdict, holm, smallest_difference, verdicts
from sft.study.wording import verdict_words
from tests.study.made_results import an_interval, configuration, simulated


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
@simulated(1_000)
def test_family_wise_false_positives(base, draws):
    rng = np.random.default_rng(4)
    wrong = sum(
        any(verdict.significant for verdict in verdicts(study(rng, 3, base=base))) for _ in range(draws)
    )
    assert wrong / draws <= 0.06


def test_a_planted_difference_is_found():
    for gain, outcome in ((0.3, Outcome.BETTER), (-0.3, Outcome.WORSE)):
        judged = verdicts(study(np.random.default_rng(5), 8, gain))
        assert [verdict.outcome for verdict in judged] == [outcome] * 24 + [Outcome.NO_DIFFERENCE] * 12


@simulated(2_000)
def test_the_smallest_difference_is_found_in_80_of_100_studies(draws):
    rng = np.random.default_rng(7)
    sizes = (0.3, 0.5, 0.3, 0.3)

    def draw(gain):
        first, second = (configuration(rng, (5, 2, 60), 0, *sizes) for _ in range(2))
        return an_interval(compare_configurations(first + gain, second))

    smallest = np.mean([smallest_difference(draw(0)) for _ in range(draws // 2)])
    assert np.mean([draw(smallest).p < 0.05 for _ in range(draws)]) == pytest.approx(
        0.8, abs=0.04 if draws == 2_000 else 0.06
    )


def test_smallest_difference():
    interval = Interval(0.0, -1.0, 1.0, 1.0, standard_error=0.01, student={4: 1.0})
    assert smallest_difference(interval) == pytest.approx((2.77645 + 0.940965) * 0.01, rel=1e-5)
    assert smallest_difference(interval, comparisons=5) == pytest.approx(
        (4.60409 + 0.940965) * 0.01, rel=1e-5
    )


def test_holm():
    # Four: 0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.04 x 1, none below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_verdicts_are_corrected():
    intervals = [Interval(-0.02, -0.04, -0.001, p, 0.01, {100: 1.0}) for p in (0.04, 0.001)]
    assert verdicts(intervals[:1])[0].outcome is Outcome.WORSE
    first, second = verdicts([*intervals, *intervals[:1]])[:2]
    assert (first.outcome, second.outcome) == (Outcome.NO_DIFFERENCE, Outcome.WORSE)
    assert first.result is intervals[0]
    assert first.smallest == smallest_difference(intervals[0], 3)


def test_what_cannot_be_judged_corrects_others_where_it_was_pre_registered():
    refused = Refusal(0.1, Lack.REPLICATES, 1)
    told = Interval(0.1, 0.05, 0.15, 0.001, 0.02, {30: 1.0})
    first, second = verdicts([refused, told])
    assert first == Verdict(refused, Outcome.NOT_JUDGED) and not first.significant
    assert (second.outcome, second.p) == (Outcome.BETTER, 0.001)
    assert verdicts([refused, told], pre_registered=True)[1].p == 0.002
    assert first == verdicts([refused, told], pre_registered=True)[0]


def test_verdicts_in_words():
    none = Interval(0.01, -0.02, 0.04, 0.3, 0.02, {30: 1.0})
    words = [
        verdict_words(verdict)
        for verdict in verdicts([none, Interval(0.1, 0.05, 0.15, 1e-6, 0.02, {9: 1.0})])
    ]
    smallest = smallest_difference(none, 2)
    assert words == [f"no difference that this design can see (smallest it could: {smallest:.4f})", "better"]
    for refusal, expected in (
        (Refusal(0.1, Lack.REPLICATES, 1), "1 replicate"),
        (Refusal(0.1, Lack.EXAMPLES, 15), "15 examples"),
        (Refusal(0.1, Lack.TRAIN_SEEDS, 2), "replicates of one train.seed"),
    ):
        assert verdict_words(verdicts([refusal])[0]) == f"nothing can be said: {expected}"
