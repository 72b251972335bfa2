"""One adapter against another: what is tested, in which order, and the sentence."""

from dataclasses import replace

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.statistics.gains import gains, sentence
from sft.statistics.scores import Scores, ScoresOf
from sft.statistics.significance import Outcome
from sft.tasks.task import AVERAGE

TASKS = ("recipe", "question")


def scores(bits: float = 0.0, rouge: float = 0.0, seed: int = 1, examples: int = 20) -> Scores:
    """Make scores of two tasks, better by `bits` of bits per byte and `rouge` of ROUGE-1."""
    easy, rng = np.random.default_rng(0), np.random.default_rng(seed)
    made: Scores = {}
    for number, task in enumerate(TASKS):
        names = [f"{task}{place}" for place in range(examples + number)]
        for metric, mean, gain, runs in (("bits_per_byte", 1.2, -bits, 1), ("rouge1", 0.2, rouge, 3)):
            shape = (runs, len(names))
            values = mean + easy.normal(0, 0.1, len(names)) + gain + rng.normal(0, 0.02, shape)
            made[task, metric] = ScoresOf(names, values)
    return made


def test_what_is_found_and_said() -> None:
    found = gains(scores(bits=0.3, rouge=-0.1, seed=2), scores())
    assert [(gain.task, gain.metric) for gain in found] == [
        *((task, "bits_per_byte") for task in (AVERAGE, *TASKS)),
        *((task, "rouge1") for task in (AVERAGE, *TASKS)),
    ]
    assert [gain.outcome for gain in found] == [Outcome.BETTER] * 3 + [Outcome.WORSE] * 3
    first = found[0]
    assert first.low is not None and first.high is not None
    assert first.low < first.difference < first.high < 0
    assert first.difference == pytest.approx(first.after - first.before)
    assert sentence(found, "the base model") == (
        "Better than the base model in bits per byte on average and on every task; "
        "but worse in ROUGE-1 on average and on every task."
    )


def test_the_order_of_examples_does_not_matter() -> None:
    before = scores()
    turned: Scores = {key: ScoresOf(of.examples[::-1], of.values[:, ::-1]) for key, of in scores(0.3).items()}
    assert [gain.low for gain in gains(turned, before)] == pytest.approx(
        [gain.low for gain in gains(scores(0.3), before)]
    )


def test_other_examples_are_an_error() -> None:
    with pytest.raises(UserError, match=r"examples of recipe: 1 are in after only .*'recipe20' for one"):
        gains(scores(examples=21), scores())


def verdict(bits: float, **of_rouge: float) -> str:
    """Return the sentence on made-up gains of bits per byte, and of ROUGE-1 by task."""
    after = scores(bits, seed=2)
    for task, gain in of_rouge.items():
        of = after[task, "rouge1"]
        after[task, "rouge1"] = ScoresOf(of.examples, of.values + gain)
    return sentence(gains(after, scores()), "the base model")


CLOSED = "bits per byte do not differ significantly on average, so they were not tested by task"


def test_the_sentence_names_every_task_that_got_worse() -> None:
    """Likelihood alone would call a model better whose answers got worse."""
    better = "Better than the base model in bits per byte on average and on every task"
    no_rouge = "no significant difference in ROUGE-1 on average and on every task"
    assert verdict(0.3) == f"{better}; {no_rouge}."
    assert verdict(0.3, question=-0.3) == (
        f"{better}; but worse in ROUGE-1 on average and on question; no significant "
        "difference in ROUGE-1 on recipe."
    )
    assert verdict(0.0, question=-0.3) == (
        "Worse than the base model in ROUGE-1 on average and on question; no significant difference "
        f"in bits per byte on average, and in ROUGE-1 on recipe; {CLOSED}."
    )
    assert verdict(-0.3).startswith("Worse than the base model in bits per byte on average and on every task")
    assert verdict(0.0) == f"No significant difference from the base model; {CLOSED}."
    same = gains(scores(), scores())
    assert sentence(same, "before") == "The same scores as before on every task."
    assert {gain.note for gain in same} == {"no variance: all scores are the same"}
    assert verdict(0.3, recipe=0.3, question=0.3).endswith(
        "every task, and in ROUGE-1 on average and on every task."
    )
    few = gains(scores(0.3, seed=2, examples=8), scores(examples=8))
    assert sentence(few, "before") == (
        "Not judged against before: question has 9 examples, and 16 are needed, "
        "recipe has 8 examples, and 16 are needed."
    )


def test_tasks_are_tested_only_where_the_average_is_found() -> None:
    after = scores(seed=2)
    for task, gain in (("recipe", 0.2), ("question", -0.2)):  # which cancel out
        of = after[task, "bits_per_byte"]
        after[task, "bits_per_byte"] = ScoresOf(of.examples, of.values + gain)
    average, *tasks = gains(after, scores())[:3]
    assert average.note.startswith("minimum detectable: 0.")
    for gain, by_itself in zip(tasks, (Outcome.WORSE, Outcome.BETTER), strict=True):
        assert gain.outcome is Outcome.NOT_TESTED and gain.p is None
        assert gain.by_itself is by_itself and abs(gain.difference) > 0.1
        assert gain.note == "as bits per byte do not differ significantly on average"
    assert sentence(gains(after, scores()), "before") == (
        f"No significant difference from before; {CLOSED}, though the uncorrected 95% interval excludes 0 "
        "on recipe (worse), question (better)."
    )


def only(made: Scores, *tasks: str) -> Scores:
    return {key: of for key, of in made.items() if key[0] in tasks}


def first(made: Scores, task: str, metric: str, count: int) -> Scores:
    """Keep the first examples alone of one task's scores."""
    of = made[task, metric]
    return made | {(task, metric): ScoresOf(of.examples[:count], of.values[:, :count])}


def test_a_single_task_is_the_primary_endpoint_itself() -> None:
    found = gains(only(scores(0.3, seed=2), "recipe"), only(scores(), "recipe"))
    assert [(of.task, of.metric) for of in found] == [("recipe", "bits_per_byte"), ("recipe", "rouge1")]
    assert [of.outcome for of in found] == [Outcome.BETTER, Outcome.NO_DIFFERENCE]
    assert sentence(found, "before") == (
        "Better than before in bits per byte on recipe; no significant difference in ROUGE-1 on recipe."
    )


def test_a_small_task_leaves_the_others_tested() -> None:
    after, before = (first(made, "question", "bits_per_byte", 10) for made in (scores(0.3, seed=2), scores()))
    average, recipe, question, *_ = gains(after, before)
    assert (recipe.outcome, average.outcome, question.outcome) == (
        Outcome.BETTER,
        Outcome.NOT_JUDGED,
        Outcome.NOT_JUDGED,
    )
    assert average.note == question.note == "question has 10 examples, and 16 are needed"
    assert sentence(gains(after, before), "before") == (
        "Better than before in bits per byte on recipe; no significant difference in ROUGE-1 on average and "
        "on every task; not judged in bits per byte on average and on question (question has 10 examples, "
        "and 16 are needed)."
    )


def test_bits_per_byte_of_one_task_on_one_side_only() -> None:
    after = scores(0.3, seed=2)
    del after["question", "bits_per_byte"]
    assert sentence(gains(after, scores()), "before") == (
        "Better than before in bits per byte on recipe; no significant difference in ROUGE-1 on average and "
        "on every task."
    )


def test_scores_that_are_no_numbers_are_an_error() -> None:
    after = scores(seed=2)
    after["recipe", "rouge1"].values[1, 3] = np.nan
    with pytest.raises(UserError, match="after: a score of 'recipe3' of recipe is not finite"):
        gains(after, scores())


def test_a_task_or_metric_of_one_side_only_is_left_out() -> None:
    after = scores(0.3, seed=2)
    after["new", "rouge1"] = after["recipe", "rouge1"]
    after["recipe", "format"] = ScoresOf(["recipe0"], np.zeros((1, 1)))
    after["recipe", "rougeL"] = after["recipe", "rouge1"]  # on both sides, it would not be tested either
    before = scores() | {("recipe", "rougeL"): scores()["recipe", "rouge1"]}
    assert len(gains(after, before)) == 6
    with pytest.raises(UserError, match="nothing to compare"):
        gains({("new", "rouge1"): after["new", "rouge1"]}, before)


def test_a_metric_that_this_code_does_not_know_is_left_out() -> None:
    """Another commit's scores may have a task's own metric that has since gone or has another name."""
    gone = {("recipe", "gone"): scores()["recipe", "rouge1"]}
    assert len(gains(scores(0.3) | gone, scores() | gone)) == 6
    with pytest.raises(UserError, match="nothing to compare"):
        gains(gone, gone)


def test_what_is_not_judged_for_no_known_reason() -> None:
    few = gains(scores(0.3, seed=2, examples=8), scores(examples=8))
    assert sentence([replace(gain, note="") for gain in few], "before") == "Not judged against before."


def test_a_share_has_an_interval_where_nothing_was_right() -> None:
    none = {("recipe", "format"): ScoresOf([f"{n}" for n in range(16)], np.zeros((3, 16)))}
    (gain,) = [of for of in gains(scores() | none, scores(seed=2) | none) if of.metric == "format"]
    assert gain.outcome is Outcome.NO_DIFFERENCE and gain.low is not None and gain.low < -0.1
    assert gain.note == ""  # the interval says it; a minimum detectable difference would not be right
