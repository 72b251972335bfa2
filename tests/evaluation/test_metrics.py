"""The metrics' functions against the table of their names."""

import json

import pytest

from sft.evaluation import rouge
from sft.evaluation.metrics import OF_TEXTS, READERS
from sft.tasks.metric_names import METRICS, ROUGE

REFERENCES = [["a pan of leeks"], ["salt", "a pinch of salt"], ["bake it until done"]]
PREDICTIONS = ["a pan", "pepper and salt", ""]


def test_every_metric_has_one_function_and_every_function_a_name() -> None:
    assert sorted(OF_TEXTS) == sorted(name for name, metric in METRICS.items() if metric.decoded)
    assert set(READERS) <= set(OF_TEXTS)


def test_the_variants_of_rouge_are_computed_once() -> None:
    rouge._scores.cache_clear()
    by_variant = {name: OF_TEXTS[name](REFERENCES, PREDICTIONS) for name in ROUGE}
    assert rouge._scores.cache_info().misses == 1
    for number, scores in enumerate(rouge.score(REFERENCES, PREDICTIONS)):
        assert scores == {name: by_variant[name][number] for name in ROUGE}
    assert OF_TEXTS["rouge1"]([[text] for text in PREDICTIONS], PREDICTIONS)[:2] == [
        1,
        1,
    ]  # of other texts, other scores


def test_a_score_for_each_pair() -> None:
    for metric in OF_TEXTS.values():
        assert len(metric(REFERENCES, PREDICTIONS)) == 3 and metric([], []) == []


def test_of_several_references_the_best_counts_whatever_their_order() -> None:
    one, other, prediction = "a pinch of salt", "some pepper", "a pinch of pepper"
    for name, metric in OF_TEXTS.items():
        (of_one,), (of_other,) = metric([[one]], [prediction]), metric([[other]], [prediction])
        for both in ([one, other], [other, one]):
            assert metric([both], [prediction]) == [max(of_one, of_other)], name
        assert of_one != of_other or name not in ROUGE


def scored(metric: str, reference: str, *predictions: str) -> list[float]:
    return OF_TEXTS[metric]([[reference]] * len(predictions), predictions)


def test_an_exact_match_is_squad_s() -> None:
    right = ["The Eiffel Tower", "eiffel tower.", " an  Eiffel\ntower "]
    assert scored("exact_match", "the Eiffel Tower!", *right) == [1, 1, 1]
    assert scored("exact_match", "the Eiffel Tower!", "Eiffel", "theEiffel Tower", "") == [0, 0, 0]


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        ("A", ["a", "A.", "(A)"], ["", "The", "B", "an"]),
        ("+", [" +\n"], ["-", ""]),
        ("3.5", ["3.5.", "$3.5"], ["35", "3 5"]),
        ("-5", ["(-5)"], ["5"]),
        ("1,000", ["1000"], ["1.000"]),
        ("COVID-19", ["covid19"], ["covid"]),
    ],
)
def test_an_exact_match_of_letters_signs_and_numbers(reference, right, wrong) -> None:
    assert scored("exact_match", reference, *right) == [1] * len(right)
    assert scored("exact_match", reference, *wrong) == [0] * len(wrong)


def test_json_that_is_valid() -> None:
    valid = ['{"a": 1}', " [1, 2]\n", '```json\n{"a": 1}\n```', "```\n[]```", "3"]
    assert scored("json_valid", "", *valid) == [1] * len(valid)
    broken = ["", "{a: 1}", '{"a": NaN}', 'Here: {"a": 1}', '{"a": 1', "```json\n{", "[" * 100_000]
    assert scored("json_valid", "", *broken) == [0] * len(broken)


def test_the_fields_of_json() -> None:
    reference = '{"name": "Ann", "born": 1980, "of": {"city": "Bonn", "tags": ["a", "b"]}}'
    assert scored(
        "json_match",
        reference,
        reference,
        '```json\n{"of": {"tags": ["b", "a"], "city": " Bonn"}, "born": 1980.0, "name": "Ann"}\n```',
        '{"name": "Ann", "born": 1980, "of": {"city": "Bonn", "tags": ["a"]}}',
        '{"name": "Ann"}',
        '{"city": "Bonn", "born": "1980", "name": true}',
        "Ann, born 1980",
        "{}",
        "[" * 100_000,
    ) == pytest.approx([1, 1, 2 * 4 / 9, 2 * 1 / 6, 0, 0, 0, 0])
    assert scored("json_match", "{}", "{}", "[]", '{"a": {}}') == [1, 0, 0]
    assert scored("json_match", '{"a": 1}', '{"a": true}', '{"a": 1e400}', '{"a": [1]}') == [0, 0, 0]
    deep = '{"a":' * 900 + "1" + "}" * 900
    assert scored("json_match", "{}", deep) == [0]


CALLS = '[{"name": "find", "arguments": {"what": "salt", "shops": 2}}]'
ONE = '{"name": "find", "arguments": {"shops": 2, "what": "salt"}}'


@pytest.mark.parametrize(
    "answer",
    [
        f"<tool_call>\n{ONE}\n</tool_call>",
        f"I look for it.\n<tool_call>{ONE}</tool_call>",
        f"<tool_call>{ONE}",
        ONE.replace("arguments", "parameters"),
        f"<|python_tag|>{ONE.replace('arguments', 'parameters')}",
        f"[TOOL_CALLS][{ONE}]",
        f"[{ONE}]",
        f"```json\n{ONE}\n```",
        json.dumps({"function": {"name": "find", "arguments": json.dumps({"what": "salt", "shops": 2.0})}}),
    ],
)
def test_a_call_in_every_form(answer: str) -> None:
    assert scored(
        "tool_call", CALLS, answer, answer.replace("salt", "oil"), answer.replace("find", "buy")
    ) == [
        1,
        0,
        0,
    ]
    # As a reference too: own rows may have calls in the text.
    assert scored("tool_call", answer, ONE) == [1]


def test_what_is_not_the_call() -> None:
    more = f"<tool_call>{ONE}</tool_call>\n<tool_call>{ONE}</tool_call>"
    wrong = [
        "",
        "find salt",
        "<tool_call>find(salt)</tool_call>",
        '{"name": "find"}',
        "[]",
        more,
        "[" * 100_000,
    ]
    assert scored("tool_call", CALLS, *wrong) == [0] * len(wrong)
    # Where no call is right, a text is.
    assert scored("tool_call", "There is salt.", "Yes.", '{"name": "salt"}', ONE, "<tool_call>x") == [
        1,
        1,
        0,
        0,
    ]
    both = '[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]'
    turned = '<tool_call>{"name": "b", "arguments": {}}</tool_call><tool_call>{"name": "a", "arguments": {}}'
    assert scored("tool_call", both, turned) == [1]
    in_a_row = '<|python_tag|>{"name": "b", "parameters": {}}; {"name": "a", "parameters": {}}<|eom_id|>'
    assert scored("tool_call", both, in_a_row, in_a_row.replace("<|python_tag|>", "")) == [1, 1]
    # Marked, a call may lack arguments; a cut off or nested one is wrong, not an error.
    bare = '<tool_call>{"name": "a"}</tool_call><tool_call>{"name": "b"}'
    broken = [f"[TOOL_CALLS]{rest}" for rest in ("a[ARGS]{", "", "[" * 100_000)]
    assert scored("tool_call", both, bare, *broken, "<|tool_call_start|>[a(", "<|tool_call_start|>a") == [
        1,
        *[0] * 5,
    ]
