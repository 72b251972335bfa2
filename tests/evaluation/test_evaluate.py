"""Which examples are answered, and what an answer's record holds."""

import json
import re

import pytest
import sacrebleu

from sft.core.errors import UserError
from sft.data.holdout import TASKS, HoldoutParams, evaluation_pool
from sft.evaluation import rouge
from sft.evaluation.evaluate import EvaluateParams, MaxNewTokens, answer, choose, score
from sft.evaluation.likelihood import reference_nll
from sft.evaluation.metrics import MEASURES
from sft.modeling.loading import load_model, load_tokenizer, stop_token_ids
from tests.tiny import dialogue, save_model, table

LIMITS = MaxNewTokens(recipe=9, definition=3, dialogue=4, question=5)
PARAMS = EvaluateParams(examples=3, runs=2, seed=42, temperature=0.7, batch_size=2, max_new_tokens=LIMITS)


@pytest.fixture(scope="module")
def pool():
    rows = [dialogue(f"{task}, question {n}?", f"answer {n}") for task in TASKS for n in range(6)]
    names = [f"{task}:{n}" for task in TASKS for n in range(6)]
    rows = table(rows, items=names, tasks=[task for task in TASKS for _ in range(6)])
    params = HoldoutParams(seed=42, validation=0, recipe=1, definition=1, dialogue=1, question=1)
    return evaluation_pool(rows, rows["item"], params)


def test_fewer_examples_are_the_beginning_of_more(pool):
    whole = choose(pool, 6)
    assert list(whole) == TASKS and all(len(rows) == 6 for rows in whole.values())
    for count in (1, 3, 5):
        assert choose(pool, count) == {task: rows[:count] for task, rows in whole.items()}


def test_every_task_declares_its_measures():
    assert list(MEASURES) == TASKS


def test_more_examples_than_are_held_out(pool):
    fewer = pool.filter([row != {"task": "dialogue", "item": "dialogue:0"} for row in items(pool)])
    choose(fewer, 5)
    with pytest.raises(UserError) as caught:
        choose(fewer, 6)
    message = str(caught.value)
    assert message.startswith("evaluate.examples: 6 a task are asked for, but 5 of the task")
    assert "'dialogue'" in message and "data.holdout.dialogue" in message


def items(pool):
    return pool.select(["task", "item"]).to_pylist()


def scores_of(model, tokenizer, stops, examples, params):
    answered = {task: answer(model, tokenizer, stops, task, rows, params) for task, rows in examples.items()}
    likelihoods = {task: reference_nll(model, tokenizer, rows) for task, rows in examples.items()}
    return score(examples, answered, likelihoods)


def test_answers(tmp_path, pool):
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    examples = choose(pool, 3)
    scored = scores_of(model, tokenizer, stop_token_ids(tokenizer, model), examples, PARAMS)
    expected = [(task, row["id"], run) for task, rows in examples.items() for row in rows for run in range(2)]
    assert [(row["task"], row["id"], row["run"]) for row in scored] == expected
    by_id = {row["id"]: row for rows in examples.values() for row in rows}
    for row in scored:
        assert set(row) == {
            *("task", "id", "run", "tokens", "finished", "prompt", "reference", "prediction"),
            *MEASURES[row["task"]],
        }
        example = by_id[row["id"]]
        assert (row["prompt"], row["reference"]) == (example["prompt"], example["reference"])
        (scores,) = rouge.score([row["reference"]], [row["prediction"]])
        assert {variant: row[variant] for variant in rouge.VARIANTS} == scores
        assert row["chrf"] == sacrebleu.sentence_chrf(row["prediction"], [row["reference"]]).score
        assert 1 <= row["tokens"] <= getattr(LIMITS, row["task"])
        assert row["finished"] or row["tokens"] == getattr(LIMITS, row["task"])
    json.dumps(scored)
    assert len({row["prediction"] for row in scored}) > 12
    # Neither the batch nor the number of examples changes an answer.
    again = PARAMS.model_copy(update={"batch_size": 3})
    stops = stop_token_ids(tokenizer, model)
    assert scores_of(model, tokenizer, stops, choose(pool, 5), again)[:6] == scored[:6]


def test_each_answer_is_scored_against_its_own_reference(tmp_path, pool):
    """A random model hits no real reference, so its own first answers are made the references."""
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    stops, examples = stop_token_ids(tokenizer, model), choose(pool, 6)
    limits = MaxNewTokens(recipe=20, definition=20, dialogue=20, question=20)
    longer = PARAMS.model_copy(update={"max_new_tokens": limits})
    said = {
        (row["id"], row["run"]): row["prediction"]
        for row in scores_of(model, tokenizer, stops, examples, longer)
    }
    for rows in examples.values():
        for row in rows:
            row["reference"] = said[row["id"], 0]
    first = [row for row in scores_of(model, tokenizer, stops, examples, longer) if row["run"] == 0]
    assert [row["prediction"] for row in first] == [said[row["id"], 0] for row in first]
    with_words = [row for row in first if re.search("[A-Za-z0-9]", row["prediction"])]
    assert len(with_words) > 12 and all(row["rouge1"] == 1 for row in with_words)


def test_a_temperature_below_zero():
    with pytest.raises(UserError, match=r"evaluate\.temperature: -0\.1 is below 0"):
        EvaluateParams(**{**dict(PARAMS), "temperature": -0.1})
    EvaluateParams(**{**dict(PARAMS), "temperature": 0})
