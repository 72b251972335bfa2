"""Tasks from params: one record each, and what is refused."""

import pytest

from sft.core.errors import ParamError
from sft.core.params import load, mapping
from sft.tasks.metric_names import COMMON
from sft.tasks.task import TaskParams, tasks_of
from tests.imports import ROOT

RIDDLE = {"source": "data/raw/riddles.jsonl", "holdout": 0.2, "max_new_tokens": "1k", "metrics": ["format"]}


def read(tasks):
    return tasks_of(mapping({"tasks": tasks}, "tasks", TaskParams))


def test_a_task_is_what_params_say() -> None:
    one, two = read({"riddle": RIDDLE, "haiku": {**RIDDLE, "metrics": []}})
    assert (one.name, one.source, one.holdout, one.max_new_tokens) == ("riddle", RIDDLE["source"], 0.2, 1000)
    assert one.metrics == [*COMMON, "format"] and two.metrics == COMMON and two.name == "haiku"


def test_the_default_has_four_in_the_order_of_the_file() -> None:
    tasks = tasks_of(mapping(load(ROOT / "params.yaml"), "tasks", TaskParams))
    assert [task.name for task in tasks] == ["recipe", "definition", "dialogue", "question"]
    assert [task.name for task in tasks if "format" in task.metrics] == ["recipe"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "tasks: there is none"),
        (
            {"riddle": {**RIDDLE, "holdout": 1.5}},
            "tasks.riddle.holdout: 1.5 is not a share from 0 to 1 (0.2; 1.0",
        ),
        ({"riddle": {**RIDDLE, "max_new_tokens": 0}}, "tasks.riddle.max_new_tokens: 0 is not a positive"),
        (
            {"riddle": {**RIDDLE, "metrics": ["bleu"]}},
            "tasks.riddle.metrics: 'bleu' is no metric. A",
        ),
        (
            {"riddle": {**RIDDLE, "metrics": ["chrf"]}},
            "tasks.riddle.metrics: 'chrf' is one that every",
        ),
        ({"riddle": {**RIDDLE, "metrics": "format"}}, "tasks.riddle.metrics: 'format' is not a list"),
        ({"riddle": {**RIDDLE, "weight": 2}}, "tasks.riddle.weight: a task has no such param, but source,"),
        ({"riddle": {"source": "a"}}, "tasks.riddle.holdout: missing."),
        ({"riddle": None}, "tasks.riddle: None is not a mapping"),
        ({"average": RIDDLE}, "tasks.average: the metrics files call the tasks' average so"),
        ({"size": RIDDLE}, "tasks.size: a key in here cannot be called size"),
        ({"riddle": {**RIDDLE, "size": 3}}, "tasks.riddle.size: a key in here cannot be called size"),
        ({"Two words": RIDDLE}, "tasks.Two words: "),
    ],
)
def test_what_is_no_task(tasks, message) -> None:
    with pytest.raises(ParamError) as caught:
        read(tasks)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0.2, 0.2),
        ("0.2", 0.2),
        (1, 1),
        ("1", 1),
        (1.0, 1.0),
        ("1.0", 1.0),
        (60, 60),
        ("1k", 1000),
        (100.0, 100),
    ],
)
def test_a_share_or_a_number_is_held_out(written, meant) -> None:
    (found,) = read({"riddle": {**RIDDLE, "holdout": written}})
    assert (found.holdout, type(found.holdout)) == (meant, type(meant))


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "half", None, float("nan"), [0.2]])
def test_what_is_neither(wrong) -> None:
    with pytest.raises(ParamError, match=r"^tasks\.riddle\.holdout: .* is not a share from 0 to 1 \("):
        read({"riddle": {**RIDDLE, "holdout": wrong}})
