"""Which examples are answered, and what an answer's record holds."""

import json
import math
import re
from dataclasses import replace

import pyarrow as pa
import pytest
import sacrebleu

from sft.core.errors import UserError
from sft.evaluation import rouge, scores_file
from sft.evaluation.evaluate import EvaluateParams, answer, check_finite, choose, score, too_few
from sft.evaluation.likelihood import Likelihood, encoded, likelihoods
from sft.generation.generate import Answer, Prompt
from sft.modeling.loading import load_model, load_tokenizer, stop_token_ids
from sft.modeling.thoughts import Said
from tests.tiny import save_model
from tests.tiny import task as made

TASKS = [
    made("recipe", metrics=("format",), max_new_tokens=9, holdout=1.0),
    made("definition", max_new_tokens=3, holdout=1.0),
    made("dialogue", max_new_tokens=4, holdout=1.0),
    made("question", max_new_tokens=5, holdout=1.0),
]
PARAMS = EvaluateParams(
    examples=3, likelihood_examples=4, runs=2, seed=42, temperature=0.7, batch_size=2, devices=1
)


@pytest.fixture(scope="module")
def pool():
    """Make six examples of each task, with one reference or two."""
    return pa.Table.from_pylist(
        [
            {
                "task": task.name,
                "id": f"{task.name[:2]}{n:030}",
                "item": f"{task.name}:{n}",
                "prompt": [{"role": "user", "content": f"{task.name}, question {n}?"}],
                "references": [f"answer {n}", f"reply {n}"][: 1 + n % 2],
            }
            for task in TASKS
            for n in range(6)
        ]
    )


def asking(**values):
    return PARAMS.model_copy(update=values)


def test_fewer_examples_are_the_beginning_of_more(pool):
    whole = choose(pool, TASKS, asking(likelihood_examples=6))
    assert list(whole) == [task.name for task in TASKS] and all(len(rows) == 6 for rows in whole.values())
    for count in (3, 5):
        fewer = choose(pool, TASKS, asking(likelihood_examples=count))
        assert fewer == {task: rows[:count] for task, rows in whole.items()}
    # What is answered has a likelihood in any case.
    assert choose(pool, TASKS, asking(examples=6, likelihood_examples=1)) == whole


@pytest.mark.parametrize("name", ["examples", "likelihood_examples"])
def test_more_examples_than_are_held_out(pool, name):
    fewer = pool.filter([item != "dialogue:0" for item in pool["item"].to_pylist()])
    enough, more = (asking(**{name: count}) for count in (5, 6))
    assert too_few(choose(fewer, TASKS, enough), enough) == []
    chosen = choose(fewer, TASKS, more)
    assert [len(rows) for rows in chosen.values()] == [6, 6, 5, 6]
    (line,) = too_few(chosen, more)
    assert line.startswith(f"dialogue: 5 examples, all that are held out, not the 6 of evaluate.{name}. ")
    assert "raise tasks.dialogue.holdout" in line
    with pytest.raises(UserError, match=r"^tasks\.riddle: no example of it is held out"):
        choose(pool, [made("riddle")], enough)


def test_a_reference_that_a_metric_cannot_read(pool):
    wrong = made("recipe", metrics=("json_match",))
    with pytest.raises(
        UserError, match=r"^tasks\.recipe\.metrics: json_match cannot read a reference of .* re0"
    ):
        choose(pool, [wrong], PARAMS)
    choose(pool, [made("recipe", metrics=("json_valid", "tool_call"))], PARAMS)


def records_of(model, tokenizer, stops, examples, params, tasks=TASKS):
    records = []
    for task in tasks:
        rows = examples[task.name]
        answered = answer(model, tokenizer, stops, task, rows[: params.examples], params)
        records += score(task, rows, answered, likelihoods(model, tokenizer, encoded(tokenizer, task, rows)))
    return records


def answers_of(*arguments):
    return [record for record in records_of(*arguments) if record["run"] is not None]


def test_answers(tmp_path, pool):
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    stops, examples = stop_token_ids(tokenizer, model), choose(pool, TASKS, PARAMS)
    records = records_of(model, tokenizer, stops, examples, PARAMS)
    # Three of the four examples are answered, and each has its likelihood after its answers.
    expected = [
        (task, row["id"], run)
        for task, rows in examples.items()
        for place, row in enumerate(rows)
        for run in ([0, 1] if place < 3 else []) + [None]
    ]
    assert [(row["task"], row["id"], row["run"]) for row in records] == expected
    by_name = {task.name: task for task in TASKS}
    by_id = {row["id"]: row for rows in examples.values() for row in rows}
    for row in records:
        example = by_id[row["id"]]
        assert (row["prompt"], row["references"]) == (example["prompt"], example["references"])
        if row["run"] is None:
            ends = ("bits_per_byte", "nll", "reference_tokens", "reference_bytes", "prompt", "references")
            assert list(row) == ["task", "id", "run", *ends]
            (alone,) = likelihoods(model, tokenizer, encoded(tokenizer, by_name[row["task"]], [example]))
            assert row["bits_per_byte"] == alone.bits_per_byte
            continue
        task = by_name[row["task"]]
        of_answers = [metric for metric in task.metrics if metric != "bits_per_byte"]
        ends = ("tokens", "finished", "prompt", "references", "prediction")
        assert list(row) == ["task", "id", "run", *of_answers, *ends]
        (scores,) = rouge.score([row["references"]], [row["prediction"]])
        assert {variant: row[variant] for variant in rouge.VARIANTS} == scores
        assert row["chrf"] == sacrebleu.sentence_chrf(row["prediction"], row["references"]).score
        assert 1 <= row["tokens"] <= task.max_new_tokens
        assert row["finished"] or row["tokens"] == task.max_new_tokens
    json.dumps(records)
    answers = [row for row in records if row["run"] is not None]
    assert len({row["prediction"] for row in answers}) > 12
    # Neither the batch nor the number of examples changes an answer.
    more = asking(examples=5, batch_size=3)
    again = answers_of(model, tokenizer, stops, choose(pool, TASKS, more), more)
    assert again[:6] == answers[:6]


def test_each_answer_is_scored_against_its_own_reference(tmp_path, pool):
    """A random model hits no real reference, so its own first answers are made the references."""
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    stops, examples = stop_token_ids(tokenizer, model), choose(pool, TASKS, asking(examples=6))
    params = asking(examples=6)
    longer = [task.model_copy(update={"max_new_tokens": 20}) for task in TASKS]
    said = {
        (row["id"], row["run"]): row["prediction"]
        for row in answers_of(model, tokenizer, stops, examples, params, longer)
    }
    for rows in examples.values():
        for row in rows:
            row["references"] = ["Something else.", said[row["id"], 0]]
    again = answers_of(model, tokenizer, stops, examples, params, longer)
    first = [row for row in again if row["run"] == 0]
    assert [row["prediction"] for row in first] == [said[row["id"], 0] for row in first]
    with_words = [row for row in first if re.search("[A-Za-z0-9]", row["prediction"])]
    assert len(with_words) > 12 and all(row["rouge1"] == 1 for row in with_words)


def test_a_temperature_below_zero():
    with pytest.raises(UserError, match=r"evaluate\.temperature: -0\.1 is below 0"):
        EvaluateParams(**{**dict(PARAMS), "temperature": -0.1})
    EvaluateParams(**{**dict(PARAMS), "temperature": 0})


@pytest.mark.parametrize(
    ("prompt", "reference", "reason"),
    [
        ("What <|eot|>?", "That.", "control token"),
        ("What?", "That <|eot|>.", "control token"),
        ("What?", " \n", "its reference is empty"),
    ],
)
def test_an_example_that_cannot_be_scored_is_named(tmp_path, prompt, reference, reason):
    tokenizer = load_tokenizer(save_model(tmp_path))
    row = {
        "item": "it",
        "id": "0123",
        "prompt": [{"role": "user", "content": prompt}],
        "references": [reference],
    }
    with pytest.raises(UserError, match=rf"the example 0123 of the task 'recipe' .*{reason}") as told:
        encoded(tokenizer, TASKS[0], [row])
    assert f"Take it out of {TASKS[0].source}" in str(told.value) and "tasks.recipe" in str(told.value)


def given(text):
    return Answer(prompt=0, run=0, text=text, tokens=3, finished=True, said=Said(text, text))


def test_what_is_thought_before_the_answer_is_not_scored():
    row = {"id": "0", "prompt": [], "references": ["yes"]}
    task = made("mine", metrics=("exact_match",))
    text = "<think>\nno, no\n</think>\n\nyes"
    one = replace(given(text), said=Said("yes", "yes"))
    record, _ = score(task, [row], [(Prompt("0", [1]), [one])], [Likelihood(1.0, 1, 3)])
    assert record["exact_match"] == 1 == record["rouge1"] and record["prediction"] == text


def test_tool_calls_are_read_with_the_marks_that_the_text_lacks():
    row = {"id": "0", "prompt": [], "references": ['[{"name": "find", "arguments": {}}]']}
    task = made("mine", metrics=("tool_call",))
    one = replace(given("find{}"), said=Said("find{}", "[TOOL_CALLS]find[ARGS]{}"))
    record, _ = score(task, [row], [(Prompt("0", [1]), [one])], [Likelihood(1.0, 1, 3)])
    assert record["tool_call"] == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_named(value):
    row = {"id": "0a", "prompt": [], "references": ["yes"]}
    with pytest.raises(
        UserError, match=r"^bits per byte of the example 0a of the task 'mine' is (nan|inf)\. "
    ):
        score(made("mine"), [row], [], [Likelihood(value, 1, 3)])
    check_finite([{"task": "mine", "id": "0a", "bits_per_byte": 1.0, "nll": value}])


def test_a_task_by_choices_has_its_scores_in_the_file():
    rows = [
        {"id": f"{n}", "prompt": [], "references": ["yes"], "choices": ["no", "yes"], "tools": None}
        for n in range(2)
    ]
    task = made("mine", metrics=("multiple_choice", "exact_match"))
    records = score(task, rows, [(Prompt("0", [1]), [given("yes")])], [Likelihood(1.0, 1, 3)] * 2, [1.0, 0.0])
    scores = scores_file.parse(scores_file.as_csv(records, None), "scores.csv")
    assert scores["mine", "multiple_choice"].values.tolist() == [[1, 0]]
    assert scores["mine", "exact_match"].values.tolist() == [[1]]
    assert records[0]["choices"] == ["no", "yes"] and "tools" not in records[0]
