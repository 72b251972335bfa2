"""Which examples are answered, and what an answer's record holds."""

import json
import re

import pytest
import sacrebleu

from sft.core.errors import UserError
from sft.data.holdout import evaluation_pool
from sft.evaluation import rouge
from sft.evaluation.evaluate import EvaluateParams, answer, choose, likelihoods, score
from sft.modeling.loading import load_model, load_tokenizer, stop_token_ids
from tests.tiny import dialogue, save_model, table
from tests.tiny import task as made

TASKS = [
    made("recipe", metrics=("format",), max_new_tokens=9, holdout=1),
    made("definition", max_new_tokens=3, holdout=1),
    made("dialogue", max_new_tokens=4, holdout=1),
    made("question", max_new_tokens=5, holdout=1),
]
PARAMS = EvaluateParams(examples=3, runs=2, seed=42, temperature=0.7, batch_size=2)


@pytest.fixture(scope="module")
def pool():
    rows = [dialogue(f"{task.name}, question {n}?", f"answer {n}") for task in TASKS for n in range(6)]
    names = [f"{task.name}:{n}" for task in TASKS for n in range(6)]
    rows = table(rows, items=names, tasks=[task.name for task in TASKS for _ in range(6)])
    return evaluation_pool({"source": rows}, TASKS, 42)


def test_fewer_examples_are_the_beginning_of_more(pool):
    whole = choose(pool, TASKS, 6)
    assert list(whole) == [task.name for task in TASKS] and all(len(rows) == 6 for rows in whole.values())
    for count in (1, 3, 5):
        assert choose(pool, TASKS, count) == {task: rows[:count] for task, rows in whole.items()}


def test_more_examples_than_are_held_out(pool):
    fewer = pool.filter([row != {"task": "dialogue", "item": "dialogue:0"} for row in items(pool)])
    choose(fewer, TASKS, 5)
    with pytest.raises(UserError) as caught:
        choose(fewer, TASKS, 6)
    message = str(caught.value)
    assert message.startswith("evaluate.examples: 6 a task are asked for, but 5 of the task")
    assert "'dialogue'" in message and "tasks.dialogue.holdout" in message


def items(pool):
    return pool.select(["task", "item"]).to_pylist()


def scores_of(model, tokenizer, stops, examples, params, tasks=TASKS):
    scored = []
    for task in tasks:
        rows = examples[task.name]
        answered = answer(model, tokenizer, stops, task, rows, params)
        scored += score(task, rows, answered, likelihoods(model, tokenizer, task, rows))
    return scored


def test_answers(tmp_path, pool):
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    examples = choose(pool, TASKS, 3)
    scored = scores_of(model, tokenizer, stop_token_ids(tokenizer, model), examples, PARAMS)
    expected = [(task, row["id"], run) for task, rows in examples.items() for row in rows for run in range(2)]
    assert [(row["task"], row["id"], row["run"]) for row in scored] == expected
    by_name = {task.name: task for task in TASKS}
    by_id = {row["id"]: row for rows in examples.values() for row in rows}
    for row in scored:
        task = by_name[row["task"]]
        ends = ("tokens", "finished", "prompt", "reference", "prediction")
        assert list(row) == ["task", "id", "run", *task.metrics, *ends]
        example = by_id[row["id"]]
        assert (row["prompt"], row["reference"]) == (example["prompt"], example["reference"])
        (scores,) = rouge.score([row["reference"]], [row["prediction"]])
        assert {variant: row[variant] for variant in rouge.VARIANTS} == scores
        assert row["chrf"] == sacrebleu.sentence_chrf(row["prediction"], [row["reference"]]).score
        assert 1 <= row["tokens"] <= task.max_new_tokens
        assert row["finished"] or row["tokens"] == task.max_new_tokens
    json.dumps(scored)
    assert len({row["prediction"] for row in scored}) > 12
    # Neither the batch nor the number of examples changes an answer.
    again = PARAMS.model_copy(update={"batch_size": 3})
    stops = stop_token_ids(tokenizer, model)
    assert scores_of(model, tokenizer, stops, choose(pool, TASKS, 5), again)[:6] == scored[:6]


def test_each_answer_is_scored_against_its_own_reference(tmp_path, pool):
    """A random model hits no real reference, so its own first answers are made the references."""
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    stops, examples = stop_token_ids(tokenizer, model), choose(pool, TASKS, 6)
    longer = [task.model_copy(update={"max_new_tokens": 20}) for task in TASKS]
    said = {
        (row["id"], row["run"]): row["prediction"]
        for row in scores_of(model, tokenizer, stops, examples, PARAMS, longer)
    }
    for rows in examples.values():
        for row in rows:
            row["reference"] = said[row["id"], 0]
    first = [row for row in scores_of(model, tokenizer, stops, examples, PARAMS, longer) if row["run"] == 0]
    assert [row["prediction"] for row in first] == [said[row["id"], 0] for row in first]
    with_words = [row for row in first if re.search("[A-Za-z0-9]", row["prediction"])]
    assert len(with_words) > 12 and all(row["rouge1"] == 1 for row in with_words)


def test_a_temperature_below_zero():
    with pytest.raises(UserError, match=r"evaluate\.temperature: -0\.1 is below 0"):
        EvaluateParams(**{**dict(PARAMS), "temperature": -0.1})
    EvaluateParams(**{**dict(PARAMS), "temperature": 0})


@pytest.mark.parametrize(("prompt", "reference"), [("What <|eot|>?", "That."), ("What?", "That <|eot|>.")])
def test_an_example_that_the_template_refuses_is_named(tmp_path, prompt, reference):
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    row = {
        "item": "it",
        "id": "0123",
        "prompt": [{"role": "user", "content": prompt}],
        "reference": reference,
    }
    with pytest.raises(UserError, match=r"the example 0123 .*control token"):
        answer(model, tokenizer, stop_token_ids(tokenizer, model), TASKS[0], [row], PARAMS)
        likelihoods(model, tokenizer, TASKS[0], [row])
