"""Scores by example as CSV: what is written is read again, and what is damaged is refused."""

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.evaluation.scores_file import as_csv, base_model, parse

REVISION = "0123456789abcdef0123"


def answer(task, example, run, rouge1, **own):
    scores = {"rouge1": rouge1, "rouge2": 0.0, "rougeL": rouge1 / 3, "chrf": 100 * rouge1, **own}
    ended = {"tokens": 5, "finished": run == 0, "prediction": "text, with a comma"}
    return {"task": task, "id": example, "run": run, **scores, **ended, "prompt": [], "references": ["text"]}


def likelihood(task, example, bits):
    return {"task": task, "id": example, "run": None, "bits_per_byte": bits, "nll": 2.0, "references": ["t"]}


RECORDS = [
    answer("recipe", "a", 0, 1 / 3, format=1.0),
    answer("recipe", "a", 1, 1.0, format=0.0),
    likelihood("recipe", "a", 2 / 3),
    answer("recipe", "b", 0, 0.0, format=0.0),
    answer("recipe", "b", 1, 0.5, format=1.0),
    likelihood("recipe", "b", 1.25),
    likelihood("recipe", "c", 1.5),
    answer("question", "d", 0, 0.25),
    answer("question", "d", 1, 0.75),
    likelihood("question", "d", 0.5),
]
TEXT = as_csv(RECORDS, REVISION)


def test_what_the_file_holds():
    lines = TEXT.splitlines()
    assert lines[0] == (
        "base_model,task,example,run,rouge1,rouge2,rougeL,chrf,format,finished,tokens,bits_per_byte"
    )
    assert lines[1] == "0123456789ab,recipe,a,0,0.333333,0.0,0.111111,33.333333,1.0,1,5,"
    assert lines[3] == "0123456789ab,recipe,a,,,,,,,,,0.666667"
    assert lines[8] == "0123456789ab,question,d,0,0.25,0.0,0.083333,25.0,,1,5,"
    assert len(lines) == 1 + len(RECORDS) and "text" not in TEXT


def test_what_is_written_is_read():
    scores = parse(TEXT, "here")
    both = {(task, metric) for task in ("recipe", "question") for metric in ("rouge1", "bits_per_byte")}
    assert both < set(scores) and len(scores) == 11 and ("question", "format") not in scores
    assert scores["recipe", "rouge1"].examples == ["a", "b"]
    assert np.array_equal(scores["recipe", "rouge1"].values, [[0.333333, 0], [1, 0.5]])
    assert scores["recipe", "bits_per_byte"].examples == ["a", "b", "c"]
    assert np.array_equal(scores["recipe", "bits_per_byte"].values, [[0.666667, 1.25, 1.5]])
    assert np.array_equal(scores["recipe", "format"].values, [[1, 0], [0, 1]])
    assert base_model(TEXT, "here") == REVISION[:12]
    assert base_model(as_csv(RECORDS, None), "here") == ""


def without(line):
    lines = TEXT.splitlines(keepends=True)
    return "".join(lines[:line] + lines[line + 1 :])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no column base_model"),
        ("<html>\n", "it has no column base_model"),
        (TEXT.splitlines()[0], "it has no rows"),
        (TEXT.replace("bits_per_byte", "nll"), "it has no column bits_per_byte"),
        (TEXT[: TEXT.index("recipe,b,1")], "line 6 has not as many cells"),
        (without(2), "recipe, rouge1: the example a has 1 of 2 runs"),
        (without(1), "recipe, rouge1: the example a has 1 of 2 runs"),
        (TEXT.replace("0.333333", ""), "line 2: rouge1: '' is no number"),
        (TEXT.replace("0.333333", "nan"), "line 2: rouge1: 'nan' is no number"),
        (TEXT.replace("0.666667", "much"), "line 4: bits_per_byte: 'much' is no number"),
        (TEXT.replace("recipe,a,1", "recipe,a,one"), "line 3: 'one' is no run"),
        (TEXT.replace("recipe,a,1", "recipe,a,0"), "line 3: the example a is there twice"),
        (TEXT.replace("33.333333,1.0", "33.333333,"), "recipe, format: the example a has 1 of 2 runs"),
        (TEXT.replace("recipe,a,0,", 'recipe,"a,0,'), "unexpected end of data"),
    ],
)
def test_a_damaged_file_is_refused(text, message):
    with pytest.raises(UserError) as caught:
        parse(text, "scores/evaluate.csv")
    said = str(caught.value)
    assert said.startswith("scores/evaluate.csv: damaged, or no file of scores: ") and message in said


def test_scores_of_two_base_models_are_refused():
    with pytest.raises(UserError, match="its rows are of 2 base models"):
        base_model(TEXT + as_csv(RECORDS, "f" * 40).partition("\n")[2], "here")
