"""Evaluation examples inside other sources: which rows are taken for one, and that the stage leaves none."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sft.core import shards
from sft.core.errors import UserError
from sft.core.files import read_json, read_parquet
from sft.core.params import leaves, load
from sft.data.contamination import Examples, normalized
from sft.data.evaluation_pool import EXAMPLES, evaluation_pool
from stages import mix, standardize
from tests.imports import ROOT
from tests.tiny import dialogue, table
from tests.tiny import task as made_task

EXAMPLE = {
    "task": "definition",
    "id": table([dialogue("Define the noun “tub”.", "A vessel.")])["id"][0].as_py(),
    "item": "word:tub",
    "prompt": [{"role": "user", "content": "Define the noun “tub”."}],
    "references": ["A vessel.", "A slow boat."],
}
LONG = {
    "task": "dialogue",
    "id": "of the whole dialogue",
    "item": "dialogue:1",
    "prompt": [*dialogue("Hello", "Hi"), {"role": "user", "content": "How are you?"}],
    "references": ["Fine!"],
}
MINE = "data/raw/mine.jsonl"


def found(*chats: list[dict[str, str]]) -> list[str]:
    """Return what each row is found to be."""
    matches = Examples(pa.Table.from_pylist([EXAMPLE, LONG], EXAMPLES)).matches(table(list(chats)))
    masks = {"id": matches.same_id, "pair": matches.question_and_answer, "question": matches.question_only}
    return ["+".join(name for name, mask in masks.items() if mask[row]) for row in range(len(chats))]


def test_case_white_space_punctuation_and_compatible_characters_make_no_difference() -> None:
    given = ["  Define the\n\nNOUN „ｔｕｂ“ ", "define the noun tub", "?!", " ? !", "C + +", "", "c + -"]
    same, other, marks, spaced, plus, nothing, minus = normalized(pa.array(given)).to_pylist()
    assert same == other == "define the noun tub"
    # Of what has no words the punctuation stays: a question mark is not three dots.
    assert marks == spaced == "?!" and nothing == "" and plus == "c + +" and minus == "c +"


def test_a_row_is_an_example_by_its_id_or_by_question_and_answer() -> None:
    asked = "DEFINE the noun 'tub'!"
    assert found(
        dialogue("Define the noun “tub”.", "A vessel."),
        dialogue(asked, "a vessel"),
        dialogue(asked, "a slow  boat."),  # any of the references
        dialogue(asked, "A bath."),
        dialogue("Define the noun “bath”.", "A vessel."),
        dialogue("Hello", "Hi"),
    ) == ["id+pair", "pair", "pair", "question", "", ""]


def test_a_pair_is_found_in_any_turn_of_a_conversation() -> None:
    system = [{"role": "system", "content": "Be kind."}]
    tool = [{"role": "assistant", "content": "look up"}, {"role": "tool", "content": "tub: a vessel"}]
    question, answer = dialogue("define the noun tub", "a vessel")
    assert found(
        [*system, *dialogue("Hello", "Hi"), question, answer],
        [question, *tool, answer],
        [answer, question],
        [question, dialogue("", "What?")[1], *dialogue("And a bath?", "a vessel")],
        [*dialogue("Is it raining?", "No"), *dialogue("how are you", "fine")],
        [*dialogue("how are you", "Well"), *dialogue("Really?", "Fine")],
    ) == ["pair", "pair", "", "question", "pair", "question"]


def calling(question: str, identity: str, **arguments: str) -> list[dict[str, str]]:
    """Return a question that a tool call answers, `id` and all, as standardized rows have it."""
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    calls = json.dumps([{"id": identity, **call} if identity else call])
    return [{"role": "user", "content": question}, {"role": "assistant", "content": "", "tool_calls": calls}]


def test_calls_are_compared_by_names_and_arguments() -> None:
    task = [
        dialogue("Is it cold in Oslo?", "Yes."),
        calling("How warm is Paris?", "call_1", at="Paris", by="C"),
    ]
    example = evaluation_pool({"source": table(task)}, [made_task("calls", ("tool_call",), holdout=2)], 0)
    rows = [
        calling("How warm is Paris?", "call_2", at="Paris", by="C"),
        calling("how warm is paris", "", by="C", at="Paris"),
        calling("How warm is Paris?", "call_1", at="Rome", by="C"),
        dialogue("Is it cold in Oslo?", "yes"),
    ]
    matches = Examples(example).matches(table(rows))
    assert matches.question_and_answer.tolist() == [True, True, False, True]
    assert matches.question_only.tolist() == [False, False, True, False]


def test_rows_beyond_one_batch_and_rows_without_messages() -> None:
    chats = [[], *([dialogue("a", "b")] * 9_000), dialogue("define the noun tub", "a vessel")]
    matches = Examples(pa.Table.from_pylist([EXAMPLE], EXAMPLES)).matches(table(chats))
    assert matches.exact.nonzero()[0].tolist() == [9_001]
    assert matches.counts() == {"same_id": 0, "question_and_answer": 1, "question_only": 0}


def params(**data: Any) -> dict[str, Any]:
    values = load(ROOT / "params.yaml")
    values["data"] |= {"extra": [], "size": 90_000, **data}
    return values


def write(rows: list[dict[str, Any]]) -> None:
    Path(MINE).parent.mkdir(parents=True, exist_ok=True)
    Path(MINE).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_every_example_of_the_default_put_into_the_user_s_own_data_is_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real sources through the stages: as they are, in other spelling, and within conversations."""
    monkeypatch.chdir(tmp_path)
    standardize.main(params())
    examples = read_parquet("data/holdout/evaluation.parquet")
    left = shards.count("data/standardized/base")
    before = read_json("metrics/standardize.json")["contaminated"]
    rows = [
        [*example["prompt"], {"role": "assistant", "content": answer}]
        for example in examples.to_pylist()
        for answer in example["references"]
    ]
    spelt = [[{**turn, "content": f" {turn['content'].upper()} ..."} for turn in row] for row in rows]
    within = [[*dialogue("Good morning", "What is it?"), *row[-2:]] for row in rows]
    own = [dialogue(f"My question {n}?", f"My answer {n}.") for n in range(50)]
    write([{"messages": row} for row in (*rows, *spelt, *within, *own)])
    values = params()
    standardize.main(params(base=[MINE, *values["data"]["base"]]))

    assert read_parquet("data/holdout/evaluation.parquet") == examples
    counts = read_json("provenance/standardize.json")["sources"][MINE]
    assert len(examples) > 1_000 and counts["held_out"] == 0
    contaminated = counts["contaminated"]
    assert contaminated["same_id"] > 700 and contaminated["question_only"] == 0
    assert contaminated["same_id"] + contaminated["question_and_answer"] == 3 * len(rows)
    now = read_json("metrics/standardize.json")["contaminated"]
    assert {reason: now[reason] - before[reason] for reason in now} == contaminated
    assert f"{MINE}: {contaminated['same_id']:,} same id, " in capsys.readouterr().out

    base, validation = (
        shards.read("data/standardized/base"),
        read_parquet("data/holdout/validation.parquet"),
    )
    assert (
        not Examples(examples)
        .matches(pa.concat_tables([base.select(validation.column_names), validation]))
        .exact.any()
    )
    assert len(base) == left + pc.sum(pc.equal(base["source"], MINE)).as_py() <= left + 50
    mix.main(values)
    metrics = {stage: read_json(f"metrics/{stage}.json") for stage in ("standardize", "mix")}
    assert metrics["mix"]["contamination"]["exact"] == 0
    assert {stage: len(list(leaves(values))) for stage, values in metrics.items()} == {
        "standardize": 17,
        "mix": 13,
    }


def test_base_that_is_nothing_but_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write([{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(40)])
    Path("data/raw/again.jsonl").write_text(
        Path(MINE).read_text().upper().replace("PROMPT", "prompt").replace("COMPLETION", "completion")
    )
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": ["data/raw/again.jsonl"], "extra": []}
    values["tasks"] = {"mine": {**values["tasks"]["recipe"], "source": MINE, "holdout": 1.0, "metrics": []}}
    with pytest.raises(UserError) as caught:
        standardize.main(values)
    message = str(caught.value)
    assert message.startswith("data.base: no row of it is left to train on. 0 rows are of items held out")
    assert "40 others hold an evaluation example" in message and "tasks.*.holdout" in message


def test_a_task_of_which_nothing_is_left_to_train_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of its rows are examples, the others the same in another spelling."""
    monkeypatch.chdir(tmp_path)
    write(
        [{"prompt": f"Question {n}{mark}", "completion": f"Answer {n}."} for n in range(40) for mark in "?!"]
    )
    other = Path("data/raw/other.jsonl")
    other.write_text(json.dumps({"prompt": "What?", "completion": "That."}) + "\n")
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": [str(other), MINE], "extra": []}
    values["tasks"] = {"mine": {**values["tasks"]["recipe"], "source": MINE, "holdout": 0.99, "metrics": []}}
    with pytest.raises(UserError, match=r"^tasks\.mine\.source: no row of the task is left of data/raw/mine"):
        standardize.main(values)
    values["data"]["base"] = [str(other)]  # not trained on, it needs no rows but its examples
    standardize.main(values)
    assert read_json("metrics/standardize.json")["validation"] == {}
