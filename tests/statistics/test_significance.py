"""Verdicts: hardly any on equal things, the planted differences found, the corrections by known answers."""

import numpy as np
import pytest

from sft.statistics.intervals import Interval, Lack, Part, Refusal, compare_adapters, compare_configurations
from sft.statistics.significance import Outcome, Verdict, holm, is_tested, verdicts
from sft.tasks.metric_names import BITS_PER_BYTE, COMMON, METRICS
from sft.tasks.task import AVERAGE
from tests.statistics.made_scores import EPOCH, STEPS, TASKS, null_differences, simulated

# Three single trainings of docs/study: the first two are compared with the third.
THREE = {
    "epochs": (f"{EPOCH[0]}-0", f"{EPOCH[1]}-0", f"{EPOCH[0]}-1"),
    "60 steps": tuple(f"{STEPS}-{number}" for number in range(3)),
}


def interval(difference: float, p: float) -> Interval:
    return Interval(difference, difference - 0.02, difference + 0.02, p, 0.01, {30: 1.0}, Part(0.0001, 30))


def three_trainings(rng, runs, examples, gain=0.0):
    """Compare on drawn examples, the same ones for both metrics; the first gains ROUGE-1 on questions.

    The real nll a token stands for bits per byte; a made-up share, of equal rates, is in the answers' family.
    """
    places = {task: rng.integers(200, size=examples) for task in TASKS}
    results = {}
    for which, run in enumerate(runs[:2]):
        for metric, real in ((BITS_PER_BYTE, "nll"), ("rouge1", "rouge1")):
            all_of = null_differences(run, runs[2], real)
            drawn = {task: all_of[task][places[task]][None] for task in TASKS}
            if metric == "rouge1" and which == 0:
                drawn["question"] = drawn["question"] + gain
            zeros = {task: np.zeros((1, examples)) for task in TASKS}
            results[which, AVERAGE, metric] = compare_adapters([*drawn.values()], [*zeros.values()])
            for task in TASKS:
                results[which, task, metric] = compare_adapters([drawn[task]], [zeros[task]])
    shared = rng.random((1, 1, examples)) < 0.4
    own = rng.random((3, 1, examples)) < 0.2
    formats = (shared | own).astype(float)  # of the three, on the same examples
    for which in range(2):
        results[which, "recipe", "format"] = compare_adapters([formats[which]], [formats[2]], share=True)
    return verdicts(results)


@pytest.mark.parametrize("examples", [16, 32, 200])
@pytest.mark.parametrize("runs", THREE)
@simulated(1_000)
def test_three_single_trainings(runs, examples, draws):
    """Gains of +0.5 are found in at least 95%; of equal trainings a family holds a finding in at most 6%."""
    rng = np.random.default_rng(1)
    found = 0
    wrong = {"likelihood": 0, "answers": 0}
    for _ in range(draws):
        judged = three_trainings(rng, THREE[runs], examples, 0.5)
        found += judged[0, "question", "rouge1"].outcome is Outcome.BETTER
    for _ in range(draws):
        judged = three_trainings(rng, THREE[runs], examples)
        for family in wrong:
            wrong[family] += any(
                of.significant
                for key, of in judged.items()
                if (key[2] == BITS_PER_BYTE) == (family == "likelihood")
            )
    print(f"found {found / draws:.1%}", *(f"{of}: wrong {count / draws:.1%}" for of, count in wrong.items()))
    assert found / draws >= 0.95
    assert max(wrong.values()) / draws <= 0.06 + 0.02 * (draws < 1_000)


def report(rng, replicates, gain=0.0, base=False, examples=60):
    """Three sizes (the first gains) pairwise, four tasks and their average, bits per byte and ROUGE-1.

    The metrics are correlated at 0.8, and a replicate's luck is half the task's. With `base` the sizes are
    compared with an untrained model instead.
    """

    def scores(size):
        luck = rng.standard_normal((replicates, 1, 1, 1, 1)) + rng.standard_normal((replicates, 4, 1, 1, 1))
        shared = rng.standard_normal((replicates, 4, 1, 1, examples))
        own = rng.standard_normal((replicates, 4, 2, 1, examples))
        return 0.02 * luck + 0.1 * (0.8**0.5 * shared + 0.2**0.5 * own) + gain * (size == 0)

    common = 0.2 * rng.standard_normal((4, 2, 1, examples))
    sizes = [common + scores(size) for size in range(3)]
    pairs = [(sizes[0], sizes[1]), (sizes[0], sizes[2]), (sizes[1], sizes[2])]
    if base:
        untrained = np.broadcast_to(common + 0.05 * rng.standard_normal(common.shape), sizes[0].shape)
        pairs = [(size, untrained) for size in sizes]
    results = {}
    for number, sides in enumerate(pairs):
        for place, metric in enumerate((BITS_PER_BYTE, "rouge1")):
            tasks = [[side[:, task, place] for task in range(4)] for side in sides]
            results[number, AVERAGE, metric] = compare_configurations(*tasks)
            for task in range(4):
                results[number, TASKS[task], metric] = compare_configurations(*([of[task]] for of in tasks))
    return verdicts(results)


@pytest.mark.parametrize("base", [False, True])
@simulated(1_000)
def test_family_wise_false_positives_of_configurations(base, draws):
    rng = np.random.default_rng(4)
    wrong = {BITS_PER_BYTE: 0, "rouge1": 0}
    for _ in range(draws):
        judged = report(rng, 3, base=base)
        for metric in wrong:
            wrong[metric] += any(of.significant for key, of in judged.items() if key[2] == metric)
    print(*(f"{metric}: {count / draws:.1%}" for metric, count in wrong.items()))
    assert max(wrong.values()) / draws <= 0.06 + 0.02 * (draws < 1_000)


@simulated(1_000)
def test_family_wise_false_positives_where_one_pair_differs(draws):
    """The sequence keeps 5% over all pairs too: one pair's true average opens no door to another's tasks."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(draws):
        results = {}
        for pair in range(4):
            tasks = [rng.standard_normal((1, 40)) for _ in TASKS]
            if pair < 2:
                tasks[0] += 5.0  # so is the average
            zeros = [np.zeros((1, 40))] * 4
            results[pair, AVERAGE, BITS_PER_BYTE] = compare_adapters(tasks, zeros)
            for task, of in zip(TASKS, tasks, strict=True):
                results[pair, task, BITS_PER_BYTE] = compare_adapters([of], [zeros[0]])
        judged = verdicts(results)
        wrong += any(
            verdict.significant
            for (pair, task, _), verdict in judged.items()
            if pair >= 2 or task not in (AVERAGE, TASKS[0])
        )
    print(f"wrong {wrong / draws:.1%}")
    assert wrong / draws <= 0.065 + 0.02 * (draws < 1_000)


def test_a_planted_difference_is_found():
    for gain, outcome in ((0.3, Outcome.BETTER), (-0.3, Outcome.WORSE)):
        judged = report(np.random.default_rng(5), 8, gain)
        for (pair, _, _), verdict in judged.items():
            if pair < 2:
                assert verdict.outcome is outcome
            assert verdict.significant == (pair < 2)


def test_holm():
    # Four: 0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.04 x 1, none below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_is_tested():
    assert [name for name in COMMON if is_tested(name)] == [BITS_PER_BYTE, "rouge1"]
    own = [name for name in METRICS if name not in COMMON]
    assert "format" in own and all(map(is_tested, own))


def likelihood(average: float, *tasks: float, of: int = 0) -> dict[tuple[int, str, str], Interval | Refusal]:
    names = (AVERAGE, *TASKS)
    return {
        (of, name, BITS_PER_BYTE): interval(0.1, p) for name, p in zip(names, (average, *tasks), strict=False)
    }


def test_the_likelihood_is_tested_in_sequence():
    judged = verdicts(likelihood(0.04, 0.001, 0.02, 0.03))
    # The average at 5%; then three tasks: 0.001 x 3 (but not below the average's), 0.02 x 2, 0.03.
    assert [of.p for of in judged.values()] == pytest.approx([0.04, 0.04, 0.04, 0.04])
    assert all(of.significant for of in judged.values())
    judged = verdicts(likelihood(0.06, 0.001, 0.02))
    assert [of.p for of in judged.values()] == [0.06, None, None]
    assert [of.outcome for of in judged.values()] == [Outcome.NO_DIFFERENCE, *[Outcome.NOT_TESTED] * 2]


def test_pairs_share_the_five_percent():
    judged = verdicts({**likelihood(0.02, 0.02, of=1), **likelihood(0.03, 0.001, of=2)})
    assert [of.p for of in judged.values()] == [0.04, 0.04, 0.06, None]


def test_the_answers_are_a_family_of_their_own():
    answers: dict[tuple[int, str, str], Interval | Refusal] = {
        (0, AVERAGE, "rouge1"): interval(-0.1, 0.012),
        (0, "recipe", "rouge1"): interval(0.1, 0.03),
        (0, "recipe", "format"): interval(0.1, 0.001),
    }
    judged = verdicts({**likelihood(0.04), **answers})
    assert [of.p for of in judged.values()] == pytest.approx([0.04, 0.024, 0.03, 0.003])
    assert judged[0, AVERAGE, "rouge1"].outcome is Outcome.WORSE
    assert judged[0, "recipe", "format"].comparisons == 3


def test_what_cannot_be_judged():
    refused = Refusal(0.1, Lack.REPLICATES, 1)
    first = verdicts({(0, AVERAGE, "rouge1"): refused, (0, "recipe", "rouge1"): interval(0.1, 0.03)})
    assert first[0, AVERAGE, "rouge1"] == Verdict(refused, Outcome.NOT_JUDGED)
    assert first[0, AVERAGE, "rouge1"].smallest is None
    assert first[0, "recipe", "rouge1"].p == 0.03


def test_tasks_without_an_average_to_test_are_a_family_of_their_own():
    """As where one task has too few examples, or there is one task only."""
    refused = Refusal(0.1, Lack.EXAMPLES, 10)
    for average in ({(0, AVERAGE, BITS_PER_BYTE): refused}, {}):
        tasks = {key: of for key, of in likelihood(0.0, 0.01, 0.04).items() if key[1] != AVERAGE}
        judged = verdicts({**average, **tasks})
        assert [judged[key].p for key in tasks] == pytest.approx([0.02, 0.04])
        # Of two pairs each has half of the 5%.
        judged = verdicts({**average, **tasks, **likelihood(0.01, of=1)})
        assert [judged[key].p for key in tasks] == pytest.approx([0.04, 0.08])
        assert judged[1, AVERAGE, BITS_PER_BYTE].p == 0.02


def test_what_was_pre_registered_and_cannot_be_judged_yet_corrects_the_others():
    refused = Refusal(0.1, Lack.REPLICATES, 1)
    results = {
        **likelihood(0.01, 0.001, of=0),
        **dict.fromkeys(likelihood(0.0, 0.0, of=1), refused),
        (0, AVERAGE, "rouge1"): interval(0.1, 0.02),
        (1, AVERAGE, "rouge1"): refused,
    }
    assert [of.p for of in verdicts(results).values()] == [0.01, 0.01, None, None, 0.02, None]
    whole = verdicts(results, pre_registered=True).values()
    assert [of.p for of in whole] == [0.02, 0.02, None, None, 0.04, None]
