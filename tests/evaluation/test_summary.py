"""Means and standard deviations over runs."""

import statistics as standard

import pytest

from sft.evaluation.summary import by_task, differences, summary


def test_summary():
    assert summary([0.2, 0.4, 0.9]) == pytest.approx({"mean": 0.5, "std": standard.stdev([0.2, 0.4, 0.9])})
    assert summary([0.3]) == {"mean": 0.3, "std": None}
    assert summary([0.3, 0.3]) == {"mean": 0.3, "std": 0.0}


def scored(task, run, rouge1, rouge2):
    return {"task": task, "run": run, "rouge1": rouge1, "rouge2": rouge2, "prediction": "x"}


ANSWERS = [
    # Recipe has three examples, question one: a task counts once in the average, whatever its examples.
    *[scored("recipe", 0, score, 0.0) for score in (0.1, 0.2, 0.6)],
    *[scored("recipe", 1, score, 0.0) for score in (0.2, 0.2, 0.2)],
    scored("question", 0, 0.9, 0.5),
    scored("question", 1, 0.4, 0.3),
]


def both(*metrics):
    return {"recipe": list(metrics), "question": list(metrics)}


def test_a_metric_of_one_task_alone_is_not_averaged():
    scores = by_task(ANSWERS, {"recipe": ["rouge1", "rouge2"], "question": ["rouge1"]})
    assert set(scores["recipe"]) == {"rouge1", "rouge2"}
    assert set(scores["question"]) == set(scores["average"]) == {"rouge1"}


@pytest.mark.parametrize("answers", [ANSWERS, ANSWERS[::-1]])
def test_by_task(answers):
    scores = by_task(answers, both("rouge1", "rouge2"))
    assert set(scores) == {"recipe", "question", "average"}
    assert scores["recipe"]["rouge1"] == pytest.approx({"mean": 0.25, "std": standard.stdev([0.3, 0.2])})
    assert scores["question"]["rouge1"] == pytest.approx({"mean": 0.65, "std": standard.stdev([0.9, 0.4])})
    # Run by run: 0.6 and 0.3.
    assert scores["average"]["rouge1"] == pytest.approx({"mean": 0.45, "std": standard.stdev([0.6, 0.3])})
    assert scores["average"]["rouge2"] == pytest.approx({"mean": 0.2, "std": standard.stdev([0.25, 0.15])})


def test_tasks_keep_their_order():
    assert list(by_task(ANSWERS, both("rouge1"))) == ["recipe", "question", "average"]


def test_one_run():
    scores = by_task([answer for answer in ANSWERS if answer["run"] == 0], both("rouge1"))
    assert scores["average"]["rouge1"] == {"mean": pytest.approx(0.6), "std": None}


def test_differences():
    base = {"recipe": {"rouge1": {"mean": 0.2, "std": 0.1}}, "other": {"rouge1": {"mean": 0.9, "std": None}}}
    tuned = {"recipe": {"rouge1": {"mean": 0.5, "std": None}}, "new": {"rouge1": {"mean": 0.1, "std": None}}}
    assert differences(tuned, base) == {"recipe": {"rouge1": pytest.approx(0.3)}}
