"""Encoding all tasks' examples: those that the chat template refuses are left out, up to a limit."""

from types import SimpleNamespace

import pytest

from sft.core.errors import UserError
from sft.core.provenance import Clock
from sft.evaluation.all_tasks import encode_all, left_out
from sft.modeling.loading import load_tokenizer
from tests.tiny import save_model, task

TASK = task("mine", metrics=("multiple_choice",))


@pytest.fixture
def model(tmp_path):
    return SimpleNamespace(tokenizer=load_tokenizer(save_model(tmp_path)))


def examples(count, *refused):
    return [
        {
            "id": f"{n:02}",
            "prompt": [{"role": "user", "content": "What <|eot|>?" if n in refused else "What?"}],
            "references": ["This."],
            "choices": ["This.", "That."],
        }
        for n in range(count)
    ]


def test_a_refused_example_is_left_out_and_told(model):
    rows = examples(20, 3, 11)
    found = encode_all(model, [TASK], {"mine": rows}, Clock())
    of = found["mine"]
    assert [row["id"] for row in of.examples] == [row["id"] for n, row in enumerate(rows) if n not in (3, 11)]
    assert len(of.references) == len(of.choices) == 18 and list(of.refused) == ["03", "11"]
    (line,) = left_out(found)
    assert line.startswith(
        "mine: 2 of 20 examples are left out. The first: the example 03 of the task 'mine' "
    )
    assert "control token" in line
    assert left_out(encode_all(model, [TASK], {"mine": examples(2)}, Clock())) == []


@pytest.mark.parametrize(("count", "refused"), [(9, (4,)), (20, (1, 2, 15)), (1, (0,))])
def test_too_many_refused_examples_fail_naming_the_first(model, count, refused):
    with pytest.raises(UserError, match=f"the example {refused[0]:02} of the task 'mine' cannot be scored"):
        encode_all(model, [TASK], {"mine": examples(count, *refused)}, Clock())
