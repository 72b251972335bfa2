"""Held-out items: which they are, what examples they make, and that they appear nowhere else."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sft.core import shards
from sft.core.errors import UserError
from sft.core.files import read_parquet
from sft.core.params import load
from sft.core.seeded_order import units
from sft.data.evaluation_pool import EXAMPLES, evaluation_pool, of_form
from sft.data.holdout import HoldoutParams, given_away, gives_away, split, under
from tests.imports import ROOT
from tests.tiny import dialogue, table, task

TASKS = ["recipe", "definition", "dialogue", "question"]
NONE = EXAMPLES.empty_table()


def without(rows: pa.Table, held: pa.Array) -> pa.Table:
    return under(rows, ~gives_away(rows, held))


def standard(forms=3, items=200):
    """Make `forms` rows of every item, of which the first has the form of the item's task."""
    rows, names, tasks = [], [], []
    for number in range(items):
        name = TASKS[number % 4]
        for form in range(forms):
            rows.append(dialogue(f"question {number}, form {form}", f"answer {number}"))
            names.append(f"{name}:{number}")
            tasks.append(name if form == 0 else None)
    return table(rows, items=names, tasks=tasks)


def pooled(rows, seed=42, **shares):
    """Return the examples of all tasks, from one source."""
    tasks = [task(name, holdout=shares.get(name, 0.2)) for name in TASKS]
    return evaluation_pool({"source": rows}, tasks, seed)


def items_of(rows):
    return set(rows["item"].to_pylist())


def said(messages):
    """Return messages without the fields that they do not have."""
    return [{key: value for key, value in message.items() if value is not None} for message in messages]


def held_out(rows, examples, extra=None, tasks=(), validation=0.0, floor=1, seed=42):
    """Split as the stage does: evaluation items first, then validation."""
    extra = rows.slice(0, 0) if extra is None else extra
    held = given_away(examples["item"], [rows, extra])
    base, extra = without(rows, held), without(extra, held)
    forms = {one.name: without(of_form(rows, one), held) for one in tasks}
    return split(
        base, extra, forms, HoldoutParams(seed=seed, validation=validation, validation_per_task=floor)
    )


def test_shares_of_the_items_are_held_out():
    rows = standard(items=4_000)
    for share in (0.1, 0.5, 1.0):
        held = items_of(evaluation_pool({"source": rows}, [task("recipe", holdout=share)], 42))
        assert {name.split(":")[0] for name in held} <= {"recipe"}
        assert abs(len(held) - share * 1_000) <= 50 and (share != 1 or len(held) == 1_000)
    parts = held_out(rows, NONE, validation=0.25)
    assert abs(len(parts.validation) / len(rows) - 0.25) < 0.03 and parts.for_validation_per_task == 0
    assert len(parts.validation) + len(parts.base) == len(rows)


def test_the_smaller_holdout_is_a_part_of_the_larger():
    rows = standard(items=1_000)
    held = [items_of(pooled(rows, recipe=share, question=share)) for share in (0.05, 0.2, 0.6)]
    assert held[0] < held[1] < held[2]
    validation = [items_of(held_out(rows, NONE, validation=share).validation) for share in (0.05, 0.2, 0.6)]
    assert validation[0] < validation[1] < validation[2]
    assert items_of(pooled(rows, seed=43)) != items_of(pooled(rows))
    # Of the items not held out for evaluation the share held out for validation is the same: two hashes.
    assert not validation[1] <= held[1]


def test_the_pool_has_one_example_a_held_out_item():
    rows = standard(items=1_200)
    examples = pooled(rows)
    items = [item for item in items_of(rows) if units("42:evaluation", pa.array([item]))[0] < 0.2]
    assert sorted(examples["item"].to_pylist()) == sorted(items)
    assert pc.unique(examples["task"]).to_pylist() == TASKS
    for row in examples.to_pylist():
        number = row["item"].split(":")[1]
        assert row["references"] == [f"answer {number}"]
        assert said(row["prompt"]) == [{"role": "user", "content": f"question {number}, form 0"}]


def test_the_pool_is_ranked_and_does_not_depend_on_row_order():
    rows = standard()
    shuffled = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    one, two = pooled(rows), pooled(shuffled)
    assert one == two
    # With a larger share the examples there were keep their order.
    large = pooled(rows, recipe=0.9)
    kept = large.filter(pc.is_in(large["id"], value_set=one["id"].combine_chunks()))
    assert kept == one and len(large) > len(one)


def test_the_examples_come_in_the_order_of_the_tasks():
    rows = standard()
    tasks = [task(name, holdout=0.2) for name in reversed(TASKS)]
    assert pc.unique(evaluation_pool({"source": rows}, tasks, 42)["task"]).to_pylist() == TASKS[::-1]


def test_a_dialogue_is_asked_for_its_second_answer():
    turns = [{"role": role, "content": f"turn {n}"} for n, role in enumerate(["user", "assistant"] * 3)]
    rows = table(
        [turns, [{"role": "system", "content": "Be kind."}, *turns[:2]]],
        items=["d", "q"],
        tasks=["dialogue", "question"],
    )
    whole = [task("dialogue", holdout=1.0), task("question", holdout=1.0)]
    examples = {row["task"]: row for row in evaluation_pool({"source": rows}, whole, 42).to_pylist()}
    assert said(examples["dialogue"]["prompt"]) == turns[:3] and examples["dialogue"]["references"] == [
        "turn 3"
    ]
    assert [m["role"] for m in examples["question"]["prompt"]] == ["system", "user"]
    assert examples["question"]["references"] == ["turn 1"]


def test_of_a_source_without_marks_every_row_has_the_form():
    """So a task on one's own file needs nothing but params; and two tasks may share a source."""
    rows = table([dialogue(f"question {n}", f"answer {n}") for n in range(200)])
    tasks = [task("mine", holdout=0.1), task("more", holdout=0.3)]
    examples = evaluation_pool({"source": rows}, tasks, 42)
    mine, more = (examples.filter(pc.equal(examples["task"], name)) for name in ("mine", "more"))
    assert 5 < len(mine) < 40 < len(more) < 80 and items_of(mine) < items_of(more)
    parts = held_out(rows, examples, rows, validation=0.1)
    assert len(parts.validation) > 2 and len(parts.base) > 100
    assert items_of(parts.base) | items_of(parts.validation) | items_of(examples) == items_of(rows)
    assert not (items_of(parts.base) | items_of(parts.validation)) & items_of(examples)
    assert items_of(parts.extra) == items_of(parts.base)


def test_each_task_has_its_own_source():
    rows, other = standard(), table([dialogue(f"mine {n}", "yes") for n in range(100)])
    tasks = [task("recipe", holdout=0.2), task("mine", holdout=0.2, source="other")]
    examples = evaluation_pool({"source": rows, "other": other}, tasks, 42).to_pylist()
    assert all(row["prompt"][0]["content"].startswith("mine") == (row["task"] == "mine") for row in examples)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_without_held_out_items(name):
    with pytest.raises(UserError, match=rf"^tasks\.{name}\.holdout: no item of source is held out"):
        pooled(standard(), **{name: 0})


def test_a_source_that_marks_rows_with_other_tasks():
    with pytest.raises(UserError, match=r"^tasks\.riddle\.source: source has rows of the tasks def"):
        evaluation_pool({"source": standard()}, [task("riddle")], 42)


def test_nothing_left_to_train_on():
    rows = standard()
    with pytest.raises(UserError, match=r"^data\.holdout: nothing of data\.base is left"):
        held_out(rows, pooled(rows), validation=1)


def test_every_task_has_its_floor_of_validation_rows():
    rows = standard(items=400)
    tasks = [task(name, holdout=0.2) for name in TASKS]
    examples = pooled(rows)
    shared = held_out(rows, examples, rows, validation=0.02)
    for floor in (5, 12):
        parts = held_out(rows, examples, rows, tasks, validation=0.02, floor=floor)
        for name in TASKS:
            of_task = parts.validation.filter(pc.equal(parts.validation["task"], name))
            assert len(of_task) == len(items_of(of_task)) == floor or name in most_of(shared, floor)
        # Whole items leave training, and what the share holds out is a part of it.
        assert items_of(shared.validation) < items_of(parts.validation)
        assert not items_of(parts.base) & items_of(parts.validation)
        assert not items_of(parts.validation) & items_of(examples) and items_of(parts.extra) == items_of(
            parts.base
        )
        lost = len(shared.base) - len(parts.base)
        assert parts.for_validation_per_task == 2 * lost > 0  # base and extra are the same rows here


def most_of(parts, floor):
    """Return the tasks of which the share alone holds out as many rows."""
    counts = {e["values"]: e["counts"] for e in pc.value_counts(parts.validation["task"]).to_pylist()}
    return {name for name, count in counts.items() if count >= floor}


def test_the_floor_leaves_most_of_a_small_task():
    rows = table([dialogue(f"question {n}", f"answer {n}") for n in range(40)])
    parts = held_out(rows, NONE, tasks=[task("mine")], floor=32)
    assert (len(parts.validation), len(parts.base)) == (10, 30)
    assert set(parts.validation["task"].to_pylist()) == {"mine"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("floor", [1, 2])
def test_the_floor_leaves_most_of_a_task_whose_rows_are_of_few_items(seed, floor):
    rows = table(
        [dialogue(f"question {n}", f"answer {n}") for n in range(10)],
        items=["large"] * 7 + ["small", "tiny", "tiny"],
    )
    parts = held_out(rows, NONE, tasks=[task("mine")], floor=floor, seed=seed)
    assert 1 <= len(parts.validation) <= 3 and "large" in items_of(parts.base)
    assert len(parts.validation) >= floor


def test_a_task_of_one_item_is_left_to_train_on():
    rows = table([dialogue(f"question {n}", f"answer {n}") for n in range(10)], items=["one"] * 10)
    parts = held_out(rows, NONE, tasks=[task("mine")], floor=2)
    assert (len(parts.validation), len(parts.base)) == (0, 10)


def test_the_floor_of_a_task_with_more_than_2_gib_of_text():
    (chunk,) = table([dialogue("question", "a" * 2**20)])["messages"].chunks
    count = 2**11 + 10  # chunks that are one in memory
    rows = table([dialogue(f"{n}", "yes") for n in range(count)])
    rows = rows.set_column(0, "messages", pa.chunked_array([chunk] * count))
    parts = split(
        table([dialogue("base", "yes")]),
        rows.slice(0, 0),
        {"mine": rows},
        HoldoutParams(seed=1, validation=0, validation_per_task=4),
    )
    assert len(parts.validation) == 4


def test_the_floor_counts_distinct_rows_and_takes_a_task_that_is_not_trained_on():
    rows = table([dialogue(f"question {n % 50}", "yes") for n in range(100)])
    other = table([dialogue(f"other {n}", "yes") for n in range(100)])
    forms = {"mine": rows, "theirs": other}
    parts = split(rows, rows.slice(0, 0), forms, HoldoutParams(seed=1, validation=0, validation_per_task=10))
    assert len(parts.validation) == 20 == len(items_of(parts.validation))
    assert len(parts.base) == 80 == parts.for_validation_per_task * 4
    assert parts.validation.schema.names == ["messages", "tools", "source", "kind", "id", "item", "task"]


def words(rows):
    """Make definitions as (word, part of speech, gloss), and their kind of hold-out."""
    return table(
        [dialogue(f"{pos} {word}?", gloss) for word, pos, gloss in rows],
        items=[f"word:{word}" for word, _, _ in rows],
        questions=[f"word:{word}:{pos}" for word, pos, _ in rows],
        related=[[f"gloss:{gloss}"] for _, _, gloss in rows],
    )


CURATED = [("lorry", "noun", "a truck"), ("lorry", "verb", "to truck"), ("hgv", "noun", "a truck")]
LATER = [*CURATED, ("lorry", "noun", "a wagon"), ("hgv", "noun", "an act"), ("cart", "noun", "a wagon")]


def test_a_word_is_held_out_with_its_glosses_and_one_step_further():
    rows, every = words(CURATED), words([*LATER, ("act", "noun", "an act"), ("tub", "noun", "a vessel")])
    reverse = table(
        [dialogue("a truck", "hgv, lorry"), dialogue("an act", "act, hgv"), dialogue("a vessel", "tub")],
        items=["gloss:a truck", "gloss:an act", "gloss:a vessel"],
        related=[["word:hgv", "word:lorry"], ["word:act", "word:hgv"], ["word:tub"]],
    )
    held = given_away(pa.array(["word:lorry"]), [rows, every, reverse])
    left = [message[0]["content"] for message in without(every, held)["messages"].to_pylist()]
    # hgv's "a truck" and cart's "a wagon" are gone; hgv's other sense stays, for it gives nothing away.
    assert left == ["noun hgv?", "noun act?", "noun tub?"]
    assert without(reverse, held)["item"].to_pylist() == ["gloss:an act", "gloss:a vessel"]
    # And of a gloss that is held out, its words with all their senses.
    held = given_away(pa.array(["gloss:a truck"]), [reverse])
    assert items_of(without(every, held)) == {"word:cart", "word:act", "word:tub"}


def test_the_references_are_all_answers_to_the_question_the_example_s_own_first():
    rows, every = words(CURATED), words(LATER)
    sources = {"source": rows, "every": every, "none": table([dialogue("noun lorry?", "a lie")])}
    (example,) = (
        row
        for row in evaluation_pool(sources, [task("mine", holdout=1.0)], 42).to_pylist()
        if row["item"] == "word:lorry"
    )
    own = next(row for row in rows.to_pylist() if row["id"] == example["id"])
    others = {"a truck", "a wagon"} if own["question"] == "word:lorry:noun" else {"to truck"}
    answer = own["messages"][1]["content"]
    assert example["references"] == [answer, *sorted(others - {answer})]


def test_nothing_of_the_real_items_held_out_is_left_to_train_on(tmp_path, monkeypatch):
    """The real sources through the stage: base, validation, evaluation and extra share no item."""
    from stages import standardize

    params = load(ROOT / "params.yaml")
    params["data"]["extra"] = [uri for uri in params["data"]["extra"] if "french" not in uri]
    monkeypatch.chdir(tmp_path)
    standardize.main(params)
    base, extra = (shards.read(f"data/standardized/{name}") for name in ("base", "extra"))
    validation, evaluation = (
        read_parquet(f"data/holdout/{name}.parquet") for name in ("validation", "evaluation")
    )
    assert min(map(len, (base, extra, validation, evaluation))) > 100
    assert not items_of(evaluation) & items_of(validation)
    training = items_of(base) | items_of(extra)
    assert not training & items_of(evaluation) and not training & items_of(validation)
    texts = {
        message["content"]
        for rows in (base, extra)
        for messages in rows["messages"].to_pylist()
        for message in messages
    }
    assert base.schema.names == ["messages", "tools", "source", "kind", "id", "item", "task"]
    several = 0
    for row in evaluation.to_pylist():
        if row["task"] in ("recipe", "definition"):
            assert not texts & {*row["references"], row["prompt"][-1]["content"]}
            several += len(row["references"]) > 1
    assert several > 50
    per_task = pc.value_counts(validation["task"]).to_pylist()
    assert {row["values"]: row["counts"] >= 32 for row in per_task if row["values"]} == dict.fromkeys(
        TASKS, True
    )


def test_a_row_that_begins_with_the_assistant_is_asked_from_its_first_user_turn_on():
    greeting = [{"role": "assistant", "content": "Hello, what is it?"}]
    rows = table([greeting + dialogue(f"question {n}", f"answer {n}") for n in range(20)] + [greeting])
    pool = evaluation_pool({"source": rows}, [task("mine", holdout=1.0)], 42)
    assert sorted(pool["references"].to_pylist()) == sorted([f"answer {n}"] for n in range(20))
    assert all(prompt[-1]["role"] == "user" for prompt in pool["prompt"].to_pylist())


def test_a_row_with_a_blank_answer_is_no_example():
    rows = table([dialogue(f"question {n}", "\u2003" if n < 5 else f"answer {n}") for n in range(20)])
    pool = evaluation_pool({"source": rows}, [task("mine", holdout=1.0)], 42)
    assert sorted(pool["references"].to_pylist()) == sorted([f"answer {n}"] for n in range(5, 20))


def asked(rows, **values):
    """Return the examples of one task that holds out all of a source without marks."""
    return evaluation_pool({"source": rows}, [task("mine", holdout=1.0, **values)], 42).to_pylist()


def test_a_row_of_one_s_own_is_asked_for_its_last_answer():
    turns = [{"role": role, "content": f"turn {n}"} for n, role in enumerate(["user", "assistant"] * 3)]
    left_out = [*turns, {"role": "user", "content": "Sure?"}]
    left_out.append({"role": "assistant", "content": "no", "trained": False})
    for messages in (turns, [*turns, {"role": "user", "content": "unanswered"}], left_out):
        (example,) = asked(table([messages]))
        assert said(example["prompt"]) == turns[:5] and example["references"] == ["turn 5"]


CALL = '[{"id": "1", "type": "function", "function": {"name": "find", "arguments": {"what": "salt"}}}]'
TOOLS = '[{"type": "function", "function": {"name": "find"}}]'


def test_a_tool_call_is_the_reference_where_calls_are_scored():
    messages = [
        {"role": "user", "content": "Is there salt?"},
        {"role": "assistant", "content": "", "tool_calls": CALL},
        {"role": "tool", "content": "yes", "tool_call_id": "1", "name": "find"},
        {"role": "assistant", "content": "There is."},
    ]
    rows = table([messages], tools=pa.array([TOOLS]))
    (example,) = asked(rows, metrics=("tool_call",))
    assert said(example["prompt"]) == messages[:1] and (example["tools"], example["calls"]) == (TOOLS, CALL)
    assert example["references"] == ['[{"name": "find", "arguments": {"what": "salt"}}]']
    (example,) = asked(rows)
    assert said(example["prompt"]) == messages[:3] and example["references"] == ["There is."]
    assert example["tools"] == TOOLS and example["calls"] is None
    assert example["reasoning"] is None
    messages[-1]["reasoning"] = "I saw some."
    (example,) = asked(table([messages], tools=pa.array([TOOLS])))
    assert example["reasoning"] == "I saw some." and example["references"] == ["There is."]


def test_a_number_of_items_is_held_out_and_a_smaller_one_is_a_part_of_it():
    rows = table([dialogue(f"question {n}", f"answer {n}") for n in range(300)])
    held = [items_of(evaluation_pool({"source": rows}, [task("mine", holdout=n)], 42)) for n in (1, 60, 300)]
    assert [len(items) for items in held] == [1, 60, 300] and held[0] < held[1] < held[2]
    with pytest.raises(UserError, match=r"^tasks\.mine\.holdout: 301 items are asked for, and .* has 300\. "):
        evaluation_pool({"source": rows}, [task("mine", holdout=301)], 42)


@pytest.mark.parametrize(("count", "least"), [(300, 32), (60, 12), (3, 0)])
def test_a_share_holds_out_some_of_a_small_source(count, least):
    rows = table([dialogue(f"question {n}", f"answer {n}") for n in range(count)])
    if not least:
        with pytest.raises(UserError, match=r"^tasks\.mine\.holdout: no item of source is held out"):
            evaluation_pool({"source": rows}, [task("mine", holdout=0.005)], 42)
        return
    few = evaluation_pool({"source": rows}, [task("mine", holdout=0.005)], 42)
    assert len(few) == least and items_of(few) < items_of(
        evaluation_pool({"source": rows}, [task("mine", holdout=0.9)], 42)
    )


def test_a_source_without_a_task_has_its_floor_of_validation_rows():
    """300 rows of one's own and a share of 0.003 would validate with none or one."""
    for count, wanted in ((300, 30), (1000, 32), (9, 1), (2, 1)):
        own = table([dialogue(f"mine {n}", f"answer {n}") for n in range(count)])
        rows = pa.concat_tables([own, standard()])
        params = HoldoutParams(seed=1, validation=0, validation_per_task=32)
        parts = split(rows, rows.slice(0, 0), {}, params, [own])
        assert len(parts.validation) == wanted and items_of(parts.validation) < items_of(own)


def test_multiple_choice_takes_the_choices_of_a_column():
    rows = table([dialogue("Which?", "b"), dialogue("What?", "c")])
    rows = rows.append_column("choices", pa.array([["a", "b"], ["c", "d"]]))
    assert {row["references"][0]: row["choices"] for row in asked(rows, metrics=("multiple_choice",))} == {
        "b": ["a", "b"],
        "c": ["c", "d"],
    }
    assert {row["choices"] for row in asked(rows)} == {None}
    with pytest.raises(UserError, match=r"^tasks\.mine\.metrics: multiple_choice needs a column 'choices'"):
        asked(rows.drop_columns("choices"), metrics=("multiple_choice",))
    for choices in (["a", "d"], ["b"], None):
        wrong = rows.set_column(len(rows.column_names) - 1, "choices", pa.array([choices, ["c", "d"]]))
        with pytest.raises(UserError, match=r"of the row \w+ of source the answer is none of the column"):
            asked(wrong, metrics=("multiple_choice",))
