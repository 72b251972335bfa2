"""One adapter against another: what is tested, in which order, and the sentence."""

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.statistics.gains import AVERAGE, gains, sentence
from sft.statistics.scores import Scores, ScoresOf
from sft.statistics.significance import Outcome

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
