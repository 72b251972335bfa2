"""A study's plan: which runs there are, what they are called, and what makes none."""

import re

import pytest

from sft.core.errors import UserError
from sft.core.params import load
from sft.study.plan import applied, condition, plan
from tests.imports import ROOT

VALUES = load(ROOT / "params.yaml")
VALUES["train"]["budget"] = "60 steps"


def test_the_plan():
    conditions = [{}, condition(VALUES, ["train.budget=1 epoch", "train.batch_size=128"])]
    runs = plan(VALUES, ["100k", "300k"], [3, 1], conditions)
    assert [run.name for run in runs] == [
        *("100k-0", "300k-0", "1-epoch-batch_size-128-100k-0", "1-epoch-batch_size-128-300k-0"),
        *("100k-1", "300k-1", "100k-2", "300k-2"),
    ]
    seeds = {name: VALUES[name]["seed"] + 2 for name in ("data", "train")}
    assert runs[-1].changes == {
        "data.size": "300k",
        "data.seed": seeds["data"],
        "train.seed": seeds["train"],
    }
    made = applied(VALUES, runs[3].changes)
    assert (made["data"]["size"], made["train"]["budget"], made["train"]["batch_size"]) == (
        "300k",
        "1 epoch",
        128,
    )
    assert made["evaluate"] == VALUES["evaluate"] and VALUES["train"]["budget"] == "60 steps"
    assert len(plan(VALUES, ["100k"], [2], conditions)) == 4


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["train.bugdet=3 steps"], "train.bugdet: no such param"),
        (["train=3"], "train: no such param"),
        (["train.budget"], "is not PARAM=VALUE"),
        (["evaluate.runs=2"], "all runs of a study share evaluate.runs"),
        (["tasks.recipe.holdout=0.2"], "all runs of a study share tasks.recipe.holdout"),
        (["data.seed=2"], "the study itself varies data.seed"),
        (["train.budget=[1"], "is no value"),
    ],
)
def test_what_is_no_condition(texts, message):
    with pytest.raises(UserError, match=message):
        condition(VALUES, texts)


@pytest.mark.parametrize(
    ("sizes", "replicates", "message"),
    [
        (["100k"], [1, 2], "2 numbers of replicates to 1 conditions"),
        (["100k"], [0], "at least 1"),
        (["many"], [1], "'many' is not a positive whole number"),
        (["100k", "100k"], [1], "100k-0 and 100k-0 are the same training"),
        (["100k", "1e5"], [1], "1e5-0 and 100k-0 are the same training"),
    ],
)
def test_what_is_no_plan(sizes, replicates, message):
    with pytest.raises(UserError, match=message):
        plan(VALUES, sizes, replicates, [{}])


def test_a_condition_that_changes_nothing_is_no_condition():
    with pytest.raises(UserError, match="60-steps-100k-0 and 100k-0 are the same training"):
        plan(VALUES, ["100k"], [1], [{}, condition(VALUES, ["train.budget=60 steps"])])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("data.filters.min_score=-1", "data.filters.min_score=1"),
        ("data.filters.languages=[en]", "data.filters.languages=en"),
        ("train.learning_rate=a/b", "train.learning_rate=a,b"),
    ],
)
def test_unlike_conditions_have_unlike_names(one, other):
    runs = plan(VALUES, ["100k"], [1], [condition(VALUES, [text]) for text in (one, other)])
    assert len({run.name for run in runs}) == 2
    # Folders, and references of Git.
    assert all(re.fullmatch(r"\w[\w.-]*\w", run.name) for run in runs)


def test_the_weights_are_one_param():
    texts = ["data.weights=proportional", "data.weights={words: 2, recipes: 1}", "data.weights.words=3"]
    conditions = [condition(VALUES, [text]) for text in texts]
    runs = plan(VALUES, ["100k"], [1], conditions)
    weights = [applied(VALUES, run.changes)["data"]["weights"] for run in runs]
    assert weights == ["proportional", {"words": 2, "recipes": 1}, {**VALUES["data"]["weights"], "words": 3}]
    assert [run.name for run in runs][::2] == ["weights-proportional-100k-0", "words-3-100k-0"]
    many = condition(VALUES, [f"data.weights={{{', '.join(f'a-long-name-{n}: 1' for n in range(99))}}}"])
    (run,) = plan(VALUES, ["100k"], [1], [many])
    assert len(run.name) < 100


def test_two_trainings_of_one_name():
    """A run is named after the last part of a param's name: unlike trainings are not called the same."""
    values = {**VALUES, **{part: {**VALUES[part], "cap": 1} for part in ("data", "train")}}
    with pytest.raises(UserError, match="two different trainings would be called cap-2-100k-0"):
        plan(values, ["100k"], [1], [{"data.cap": 2}, {"train.cap": 2}])
