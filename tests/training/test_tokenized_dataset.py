"""The training budget: what is read, in which order, what is left out, and where the loss is."""

import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from itertools import pairwise

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.core import shards
from sft.core.errors import ParamError, UserError
from sft.core.seeded_order import order, order_of_copies
from sft.modeling.chat_template import encode
from sft.modeling.labels import IGNORED
from sft.modeling.loading import load_tokenizer
from sft.training import stored_rows, tokenized_dataset, tokenizing
from sft.training.budget import Budget, Reading
from sft.training.mixture import Turns
from sft.training.refusals import Refusal, Refusals, check
from sft.training.stored_rows import TableRows
from sft.training.tokenizing import RowShape
from tests.chat_templates import (
    ANSWER,
    ASKED,
    CALL,
    RESULT,
    THOUGHTS,
    TOOL_CHAT,
    TOOLS,
    published,
    tokenizer_of,
)
from tests.fuzzing import cases
from tests.tiny import TEMPLATE, dialogue, save_model, save_shards, table

ASSISTANT = RowShape(512, "truncate", "assistant")


def rows(count):
    return Budget(count, "rows")


def read(mix, *arguments):
    return tokenized_dataset.read(TableRows(mix), *arguments)


def read_validation(held_out, *arguments):
    return tokenized_dataset.read_validation(TableRows(held_out), *arguments)


class Counting:
    """The real tokenizer, noting the texts that it is given."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.texts = []

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __call__(self, texts, **options):
        self.texts.extend([texts] if isinstance(texts, str) else texts)
        return self.tokenizer(texts, **options)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(save_model(tmp_path_factory.mktemp("tiny")))


def numbered(count):
    return table([dialogue(f"Question {n}?", f"Answer {n}.") for n in range(count)])


def ordered(mix, seed):
    return mix["id"].take(pa.array(order(seed, mix["id"]))).to_pylist()


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_only_what_the_budget_reads_is_tokenized(tokenizer, loss_on):
    counting, mix = Counting(tokenizer), numbered(5_000)
    reading = read(mix, rows(6), counting, RowShape(512, "truncate", loss_on), 42)
    assert len(reading.rows) == 6
    asked = {text.split("Question ")[1].split("?")[0] for text in counting.texts if "Question" in text}
    messages = dict(zip(mix["id"].to_pylist(), mix["messages"].to_pylist(), strict=True))
    assert asked == {messages[row][0]["content"].split()[1].strip("?") for row in reading.ids}
    assert len(asked) == 6


def test_the_order_is_by_hash_of_seed_epoch_and_id(tokenizer):
    mix = numbered(700)
    reading = read(mix, rows(1_600), tokenizer, ASSISTANT, 42)
    epochs = [ordered(mix, f"42:{epoch}") for epoch in range(3)]
    assert reading.ids == [*epochs[0], *epochs[1], *epochs[2][:200]]
    assert all(one != two for one, two in pairwise(epochs))
    assert read(mix, rows(10), tokenizer, ASSISTANT, 42).ids == epochs[0][:10]
    backwards = mix.take(pa.array(range(699, -1, -1)))
    assert read(backwards, rows(10), tokenizer, ASSISTANT, 42).ids == epochs[0][:10]
    assert read(mix, rows(10), tokenizer, ASSISTANT, 43).ids == ordered(mix, "43:0")[:10] != epochs[0][:10]


def test_budgets():
    assert Budget.parse("60 steps", 8) == Budget(60, "steps", 8)
    assert Budget.parse("1 epoch", 8) == Budget(1, "epochs", 8)
    assert Budget.parse("0.5 epochs", 8) == Budget(0.5, "epochs", 8)
    assert Budget.parse("300k rows", 8) == Budget(300_000, "rows", 8)
    assert Budget.parse(" 1.5M tokens ", 8) == Budget(1_500_000, "tokens", 8)
    for text in ("60", "sixty steps", "60 hours", "0 steps", "-1 epochs", "0.5 rows", "epochs", "steps 60"):
        with pytest.raises(UserError, match=r"train.budget: "):
            Budget.parse(text, 8)


def test_no_budget_is_met_without_a_row(tokenizer):
    """Half of an epoch may be left out: the rows behind it are read then."""
    assert not Budget(0.5, "epochs", 1).met(Reading(passed=5), 10)
    mix = numbered(10)
    first = set(ordered(mix, "42:0")[:6])
    answers = ["too long " * 60 if row in first else "yes" for row in mix["id"].to_pylist()]
    longer = table([dialogue(f"Question {n}?", text) for n, text in enumerate(answers)])
    mix = mix.set_column(0, "messages", longer["messages"])
    reading = read(mix, Budget(0.5, "epochs", 1), tokenizer, RowShape(60, "drop", "assistant"), 42)
    assert len(reading.rows) == 1 and reading.passed == 7


def test_rows_that_a_budget_in_tokens_still_takes():
    """At first as many as there are at least; from so many rows on by their mean length, with a margin."""
    budget, few, many = Budget(10_000, "tokens"), Reading(), Reading()
    few.rows, few.tokens = [{}] * 255, 2550
    many.rows, many.tokens = [{}] * 300, 3000
    assert budget.rows_left(few, 1000, 100) == 75
    assert budget.rows_left(many, 1000, 100) == 630


@pytest.mark.parametrize("shared_out", [10, 10**9])
def test_a_budget_is_met_in_whole_steps(tokenizer, monkeypatch, shared_out):
    """Of 700 rows a seventh is left out: an epoch passes each once and fills its last step up."""
    monkeypatch.setattr(tokenized_dataset, "SHARED_OUT", shared_out)
    mix = table([dialogue(f"Question {n}?", f"Answer {n}." * (n % 7)) for n in range(700)])

    def counted(text, batch_size=8):
        shape = RowShape(60, "drop", "assistant")
        return read(mix, Budget.parse(text, batch_size), tokenizer, shape, 42)

    kept = counted("1 epoch", 1)
    assert kept.passed == 700 and len(kept.rows) + sum(kept.dropped.values()) == 700
    assert 0 < len(kept.rows) < 700 and len(set(kept.ids)) == len(kept.rows)
    epoch = counted("1 epoch")
    assert epoch.ids[: len(kept.ids)] == kept.ids
    assert len(epoch.rows) == -(-len(kept.rows) // 8) * 8 and epoch.passed > 700 - 8
    assert len(counted("1.5 epochs").rows) == pytest.approx(1.5 * len(kept.rows), abs=30)
    assert len(counted("30 steps").rows) == 240
    assert len(counted("100 rows").rows) == 104
    tokens = counted("5k tokens")
    assert len(tokens.rows) % 8 == 0 and tokens.tokens >= 5_000
    assert tokens.tokens == sum(len(row["input_ids"]) for row in tokens.rows)
    assert sum(len(row["input_ids"]) for row in tokens.rows[:-8]) < 5_000


@pytest.mark.skipif(sys.platform != "linux", reason="rows are shared out on Linux only")
@pytest.mark.parametrize("weights", [None, {"a": 1, "b": 2.5}])
def test_many_rows_are_shared_out_to_all_cores(tokenizer, monkeypatch, tmp_path, weights):
    conversations = [dialogue(f"Question {n}?", f"Answer {n}." * (n % 7)) for n in range(700)]  # some empty
    mix = table(conversations, kinds=["abb"[n % 3] for n in range(700)])
    shape = RowShape(60, "drop", "assistant")
    alone = read(mix, rows(900), tokenizer, shape, 42, weights)
    once = read_validation(mix, 900, tokenizer, shape, 42, weights)
    monkeypatch.setattr(tokenized_dataset, "SHARED_OUT", 10)
    monkeypatch.setattr(tokenized_dataset, "CHUNK", 64)
    monkeypatch.setattr(stored_rows, "FIRST_BLOCK", 300)  # so they are fetched and shared out several times
    monkeypatch.setattr(stored_rows, "BLOCK_BYTES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    real = tokenizing._labelled

    def noting(*arguments):
        with (tmp_path / str(os.getpid())).open("a") as file:
            file.write("x")
        return real(*arguments)

    monkeypatch.setattr(tokenizing, "_labelled", noting)
    together = read(mix, rows(900), tokenizer, shape, 42, weights)
    tokenized = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sum(tokenized.values()) == together.passed > 900  # none in vain
    assert tokenized[str(os.getpid())] < 30 and len(tokenized) > 1  # here the few at the end
    assert together.ids == alone.ids and together.dropped == alone.dropped and any(alone.dropped.values())
    assert together.kinds == alone.kinds and together.passed == alone.passed
    assert read_validation(mix, 900, tokenizer, shape, 42, weights).ids == once.ids
    assert once.passed == 700 > len(once.ids)  # fewer than asked for: there are no more
    for one, other in zip(together.rows, alone.rows, strict=True):
        assert {name: tokens.tolist() for name, tokens in one.items()} == {
            name: tokens.tolist() for name, tokens in other.items()
        }


@pytest.mark.skipif(sys.platform != "linux", reason="rows are shared out on Linux only")
@pytest.mark.parametrize("fault", ["refused", "killed"])
def test_a_fault_in_another_process_is_the_users_error(tokenizer, monkeypatch, fault):
    def failing(*_):
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("the template cannot be used")

    monkeypatch.setattr(tokenized_dataset, "SHARED_OUT", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(tokenizing, "_labelled", failing)
    with pytest.raises(UserError, match={"refused": "cannot be used", "killed": "was killed"}[fault]):
        read(numbered(700), rows(600), tokenizer, ASSISTANT, 42)


@pytest.mark.skipif(sys.platform != "linux", reason="rows are shared out on Linux only")
def test_processes_that_tokenize_end_with_a_killed_parent(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenized_dataset, "SHARED_OUT", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(tokenizing, "_labelled", lambda *_: time.sleep(60))
    parent = multiprocessing.get_context("fork").Process(
        target=read, args=(numbered(700), rows(600), tokenizer, ASSISTANT, 42)
    )
    parent.start()
    while len(children := psutil.Process(parent.pid).children()) < 2:
        assert parent.is_alive()
        time.sleep(0.01)
    parent.kill()
    parent.join()
    assert not psutil.wait_procs(children, timeout=30)[1]


WEIGHTS = st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.5, 1, 3]), min_size=1) | st.none()
BUDGETS = st.sampled_from(["7 rows", "40 rows", "150 rows", "1 epoch", "2.5 epochs", "9k tokens"])


@cases(0.3)
@given(
    counts=st.tuples(st.integers(1, 40), st.integers(0, 15), st.integers(0, 3)),
    copies=st.integers(0, 5),
    bits=st.integers(0, 3),
    block=st.integers(1, 40),
    limit=st.sampled_from([1, 5_000, 1 << 28]),
    weights=WEIGHTS,
    budget=BUDGETS,
)
def test_rows_fetched_from_shards_are_those_read_in_memory(
    tokenizer, tmp_path_factory, counts, copies, bits, block, limit, weights, budget
):
    """Whatever the shards and the blocks: the rows by turns and ranks, each with its own tokens."""
    mix = of_kinds(**dict(zip("abc", counts, strict=True)))
    mix = pa.concat_tables([mix, mix.slice(0, copies)])
    mix = mix.take(pa.array(shards.by_id(mix["id"])))
    if weights and not set(weights) & set(mix["kind"].to_pylist()):
        weights = None
    folder = tmp_path_factory.mktemp("mix")
    save_shards(folder, mix, bits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_ROW_GROUP", 8)
        patch.setattr(stored_rows, "FIRST_BLOCK", block)
        patch.setattr(stored_rows, "BLOCK_BYTES", limit)
        patch.setattr(tokenized_dataset, "CHUNK", 4)
        stored = stored_rows.ShardRows(folder)
        reading = tokenized_dataset.read(stored, Budget.parse(budget, 2), tokenizer, ASSISTANT, 42, weights)
    expected = itertools.islice(by_turns(mix, weights), len(reading.ids))
    assert list(zip(reading.ids, reading.kinds, strict=True)) == list(expected)
    messages = dict(zip(mix["id"].to_pylist(), mix["messages"].to_pylist(), strict=True))
    for name, row in zip(reading.ids, reading.rows, strict=True):
        assert tokenizer.decode(row["input_ids"]).count(messages[name][0]["content"]) == 1
    assert Budget.parse(budget, 2).met(reading, len(mix))


def test_no_more_rows_are_fetched_than_are_going_to_be_read(tokenizer, monkeypatch):
    """At first some, to know how long they are; then what is missing, or twice as many, up to a limit."""
    monkeypatch.setattr(stored_rows, "FIRST_BLOCK", 20)
    monkeypatch.setattr(stored_rows, "BLOCK_BYTES", 90 * TableRows(numbered(900)).row_bytes)
    fetched = []

    class Noting(TableRows):
        def take(self, places):
            fetched.append(len(places))
            return super().take(places)

    def of(budget):
        fetched.clear()
        tokenized_dataset.read(Noting(numbered(900)), Budget.parse(budget, 1), tokenizer, ASSISTANT, 42)
        return fetched

    assert of("12 rows") == [20]
    assert of("60 rows") == [60]
    assert of("200 rows") == [90, 90, 90]
    assert of("6k tokens") == [20, 40, 80, 90]
    assert of("1 epoch") == [90] * 10


def by_turns(mix, weights):
    """Yield id and kind of each row as they are read, from orders of the whole mix."""
    turns = Turns(
        {kind: weights[kind] for kind in weights if kind in mix["kind"].to_pylist()} if weights else {"": 1}
    )

    def epochs(kind):
        rows = mix.filter(pc.equal(mix["kind"], kind)) if kind else mix
        for epoch in itertools.count():
            for row in order_of_copies(f"42:{epoch}", rows["id"]).tolist():
                yield rows["id"][row].as_py(), rows["kind"][row].as_py()

    reading = {}
    while (kind := turns.take()) is not None:
        yield next(reading.setdefault(kind, epochs(kind)))


def of_kinds(**counts):
    """Make rows of each kind, told apart by their questions."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return table([dialogue(f"Question {n}?", f"Of {kind}.") for n, kind in enumerate(kinds)], kinds=kinds)


def test_proportional_reads_as_the_whole_mix_is_ranked_whatever_the_kinds(tokenizer):
    mix = of_kinds(a=30, b=300, c=70)
    reading = read(mix, rows(500), tokenizer, ASSISTANT, 42)
    assert reading.ids == [*ordered(mix, "42:0"), *ordered(mix, "42:1")[:100]]
    kinds = dict(zip(mix["id"].to_pylist(), mix["kind"].to_pylist(), strict=True))
    assert reading.kinds == [kinds[row] for row in reading.ids]


def test_shares_are_exact_at_every_prefix_and_ranks_are_kept_within_a_kind(tokenizer):
    mix, weights = of_kinds(a=300, b=40, c=60, d=5), {"a": 1, "b": 3, "c": 2, "d": 0.5}
    reading = read(mix, rows(600), tokenizer, ASSISTANT, 42, weights)
    for end in range(1, 601):
        for kind, weight in weights.items():
            assert abs(reading.kinds[:end].count(kind) - end * weight / 6.5) < 1
    for kind, size in (("a", 300), ("b", 40), ("c", 60), ("d", 5)):
        of_kind = mix.filter(pc.equal(mix["kind"], kind))
        read_of_kind = [row for row, other in zip(reading.ids, reading.kinds, strict=True) if other == kind]
        epochs = -(-len(read_of_kind) // size)
        expected = [row for epoch in range(epochs) for row in ordered(of_kind, f"42:{epoch}")]
        assert read_of_kind == expected[: len(read_of_kind)] and (kind == "a" or epochs > 1)
    assert reading.by_kind()["b"] == (277, 40) and reading.by_kind()["a"] == (92, 92)
    assert reading.passed == 600
    backwards = mix.take(pa.array(range(len(mix) - 1, -1, -1)))
    assert read(backwards, rows(600), tokenizer, ASSISTANT, 42, weights).ids == reading.ids


def test_rows_stand_at_their_place_by_weight_and_equal_ones_by_name(tokenizer):
    """a: 1/2 3/2 5/2, b: 1/4 3/4 5/4 7/4, c: 1/2 3/2."""
    reading = read(of_kinds(c=9, b=9, a=9), rows(9), tokenizer, ASSISTANT, 42, {"c": 1, "a": 1, "b": 2})
    assert "".join(reading.kinds) == "bacbbacbb"


def test_rows_that_are_left_out_leave_the_shares_as_they_are(tokenizer):
    kinds = ["a", "b"] * 40
    mix = table(
        [dialogue(f"Q{n}", "B" * (99 if kind == "a" and n % 3 else 1)) for n, kind in enumerate(kinds)],
        kinds=kinds,
    )
    reading = read(mix, rows(60), tokenizer, RowShape(40, "drop", "assistant"), 42, {"a": 1, "b": 1})
    assert reading.by_kind() == {"a": (30, 14), "b": (30, 30)} and reading.dropped["too_long"] > 40
    assert reading.passed == 60 + reading.dropped["too_long"]


def test_an_epoch_is_as_many_rows_as_the_mix_has(tokenizer):
    reading = read(of_kinds(a=30, b=10), Budget(1.5, "epochs", 4), tokenizer, ASSISTANT, 42, {"b": 1})
    assert reading.by_kind() == {"b": (60, 10)}


def test_a_kind_without_a_usable_row_is_named(tokenizer):
    mix = table([dialogue(f"Q{n}", "B" * (99 if n % 2 else 1)) for n in range(8)], kinds=["a", "b"] * 4)
    shape = RowShape(40, "drop", "assistant")
    with pytest.raises(UserError, match=r"none of the 4 mix rows of kind b can be .*'too_long': 4"):
        read(mix, rows(4), tokenizer, shape, 42, {"a": 1, "b": 1})
    assert set(read(mix, rows(4), tokenizer, shape, 42, {"a": 1}).kinds) == {"a"}


def test_validation_goes_on_with_the_other_kinds_where_one_is_used_up(tokenizer):
    held_out = of_kinds(a=3, b=20, c=20)
    validation = read_validation(held_out, 30, tokenizer, ASSISTANT, 42, {"a": 2, "b": 1, "c": 1, "d": 1})
    assert validation.by_kind() == {"a": (3, 3), "b": (14, 14), "c": (13, 13)}
    assert "".join(validation.kinds[:8]) == "abcaabcb"
    every = read_validation(held_out, 50, tokenizer, ASSISTANT, 42, {"a": 2, "b": 1, "c": 1})
    assert len(every.rows) == len(set(every.ids)) == 43


def test_labels(tokenizer):
    mix = table([[*dialogue("Aq", "Bq"), *dialogue("Cq", "Dq")]])
    (row,) = read(mix, rows(1), tokenizer, ASSISTANT, 42).rows
    assert tokenizer.decode(row["input_ids"]) == (
        "<|start|>user\nAq<|eot|><|start|>assistant\nBq<|eot|>"
        "<|start|>user\nCq<|eot|><|start|>assistant\nDq<|eot|>"
    )
    assert len(row["labels"]) == len(row["input_ids"])
    assert all(
        label in (token, IGNORED) for token, label in zip(row["input_ids"], row["labels"], strict=True)
    )
    assert tokenizer.decode([label for label in row["labels"] if label != IGNORED]) == "Bq<|eot|>Dq<|eot|>"
    reading = read(mix, rows(1), tokenizer, RowShape(512, "truncate", "all"), 42)
    (whole,) = reading.rows
    assert whole["input_ids"].tolist() == whole["labels"].tolist() == row["input_ids"].tolist()
    assert reading.tokens == len(row["input_ids"]) == reading.loss_tokens + 1  # the first is never predicted


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_what_is_not_trained_is_not_in_the_loss(tokenizer, loss_on):
    """An answer marked so, and thoughts where these are only read: of all tokens, and of the assistant's."""
    messages = [*dialogue("Aq", "Bq"), *dialogue("Cq", "Dq")]
    messages[1]["trained"] = False
    messages[3]["reasoning"] = "Eq"
    mix = table([messages])
    thought = "<think>\nEq\n</think>\n\n"

    def learned(**options):
        (row,) = read(mix, rows(1), tokenizer, RowShape(512, "truncate", loss_on, **options), 42).rows
        shown = [int(t) if int(t) != IGNORED else tokenizer.pad_token_id for t in row["labels"]]
        return tokenizer.decode(shown).replace(tokenizer.pad_token, "")

    around = ("<|start|>user\nAq<|eot|><|start|>assistant\n", "<|start|>user\nCq<|eot|><|start|>assistant\n")
    before = "".join(around) if loss_on == "all" else ""
    assert learned() == f"{before}{thought}Dq<|eot|>"
    assert learned(reasoning="mask") == f"{before}Dq<|eot|>"
    assert learned(reasoning="drop") == f"{before}Dq<|eot|>"
    with pytest.raises(UserError, match="no place for reasoning") as told:
        learned(fallback="refuse")
    assert "train.reasoning_fallback to text" in str(told.value) and "max_length" not in str(told.value)


def test_a_row_without_a_trained_answer_has_no_loss_tokens(tokenizer):
    untrained = dialogue("Aq", "Bq")
    untrained[1]["trained"] = False
    with pytest.raises(UserError, match="'no_loss_tokens': 1") as told:
        read(table([untrained]), rows(1), tokenizer, ASSISTANT, 42)
    assert "marked as not to be trained on" in str(told.value)


def test_tools_reach_the_template(tmp_path):
    tokenizer = tokenizer_of(tmp_path, published("qwen2_5"), pad_token="<|im_start|>")
    calls = [{key: json.dumps(value) if key == "tool_calls" else value for key, value in CALL.items()}]
    mix = table([[ASKED, *calls, RESULT, ANSWER]], tools=pa.array([json.dumps(TOOLS)]))
    (row,) = read(mix, rows(1), tokenizer, RowShape(4096, "truncate", "assistant"), 42).rows
    whole = encode(tokenizer, TOOL_CHAT, tools=TOOLS)
    assert row["input_ids"].tolist() == whole.input_ids
    assert (row["labels"] != IGNORED).tolist() == whole.assistant_mask
    (bare,) = read(
        mix.set_column(1, "tools", pa.nulls(1, pa.string())),
        rows(1),
        tokenizer,
        RowShape(4096, "truncate", "assistant"),
        42,
    ).rows
    assert len(bare["input_ids"]) < len(row["input_ids"])


def test_turns_without_their_thoughts_are_counted(tmp_path):
    tokenizer = tokenizer_of(tmp_path, published("qwen3"), pad_token="<|im_start|>")
    messages = [{"reasoning" if k == "reasoning_content" else k: v for k, v in m.items()} for m in THOUGHTS]
    reading = read(table([messages, messages]), rows(2), tokenizer, ASSISTANT, 42)
    assert reading.thoughtless_turns == 2


@pytest.mark.parametrize("reasoning", ["train", "mask"])
def test_turns_without_their_thoughts_are_not_in_the_loss_over_all_tokens(tmp_path, reasoning):
    tokenizer = tokenizer_of(tmp_path, published("qwen3"), pad_token="<|im_start|>")
    messages = [{"reasoning" if k == "reasoning_content" else k: v for k, v in m.items()} for m in THOUGHTS]
    shape = RowShape(4096, "truncate", "all", reasoning)
    reading = read(table([messages]), rows(1), tokenizer, shape, 42)
    assert reading.thoughtless_turns == 1
    in_loss = tokenizer.decode([label for label in reading.rows[0]["labels"] if label != IGNORED])
    assert "2<|im_end|>" not in in_loss
    assert "4<|im_end|>" in in_loss and ("Two and two." in in_loss) == (reasoning == "train")


def test_tokens_are_counted(tokenizer):
    reading = read(numbered(9), rows(5), tokenizer, ASSISTANT, 42)
    # <|start|>user\nQuestion 1?<|eot|><|start|>assistant\nAnswer 1.<|eot|>: bytes, and 4 control tokens.
    assert reading.tokens == 5 * (5 + 11 + 10 + 9 + 4)
    assert reading.loss_tokens == 5 * (9 + 1)
    assert reading.truncated == 0 and set(reading.dropped.values()) == {0}


def test_truncation_is_counted(tokenizer):
    mix = table(
        [dialogue("Aq", "B"), dialogue("Aq", "B" * 100), dialogue("Aq", "C" * 9), dialogue("Aq", "C" * 6)]
    )
    # 20 tokens come before the answer: the second and third row are over, the fourth fits with its end.
    reading = read(mix, rows(4), tokenizer, RowShape(27, "truncate", "assistant"), 42)
    assert reading.truncated == 2 and set(reading.dropped.values()) == {0}
    by_id = dict(zip(reading.ids, reading.rows, strict=True))
    lengths = [len(by_id[row]["input_ids"]) for row in mix["id"].to_pylist()]
    assert lengths == [22, 27, 27, 27]
    cut = by_id[mix["id"][1].as_py()]
    assert tokenizer.decode([label for label in cut["labels"] if label != IGNORED]) == "B" * 7


def test_dropping_is_counted(tokenizer):
    mix = table(
        [dialogue("Aq", "B"), dialogue("Aq", "B" * 100), dialogue("Aq", "C" * 9), dialogue("Aq", "C" * 6)]
    )
    reading = read(mix, rows(2), tokenizer, RowShape(27, "drop", "assistant"), 42)
    assert reading.truncated == 0 and {len(row["input_ids"]) for row in reading.rows} == {22, 27}
    whole_epoch = read(mix, rows(4), tokenizer, RowShape(27, "drop", "assistant"), 42)
    assert len(whole_epoch.rows) == 4 and len(set(whole_epoch.ids)) == 2
    assert 2 <= whole_epoch.dropped["too_long"] <= 4


def test_rows_without_loss_tokens_are_left_out(tokenizer):
    mix = table([dialogue("A" * 100, "B"), dialogue("Aq", "B"), [{"role": "user", "content": "alone"}]])
    reading = read(mix, rows(2), tokenizer, RowShape(40, "truncate", "assistant"), 42)
    assert set(reading.ids) == {mix["id"][1].as_py()}
    assert reading.dropped["no_loss_tokens"] >= 2 and reading.truncated == 0
    on_all = read(mix, rows(3), tokenizer, RowShape(40, "truncate", "all"), 42)
    assert len(set(on_all.ids)) == 3 and on_all.dropped["no_loss_tokens"] == 0 and on_all.truncated == 1


def test_what_the_template_refuses_is_counted(tokenizer):
    mix = table([dialogue("Aq", "B <|eot|> C"), dialogue("<|start|>", "B"), dialogue("Aq", "B")])
    reading = read(mix, rows(1), tokenizer, ASSISTANT, 42)
    first = ordered(mix, "42:0").index(mix["id"][2].as_py())
    assert reading.ids == [mix["id"][2].as_py()]
    assert reading.dropped == {"too_long": 0, "no_loss_tokens": 0, "refused_by_template": first}
    again = read(mix, rows(2), tokenizer, ASSISTANT, 42)
    assert again.dropped["refused_by_template"] >= 2


def test_refusals_have_reasons_and_first_examples(tokenizer):
    mix = table(
        [dialogue(f"{n} <|eot|>", "B") for n in range(5)]
        + [[{"role": "assistant", "content": f"Hi {n}"}] for n in range(2)]
        + [dialogue("Aq", "B")]
    )
    reading = read(mix, Budget(1, "epochs"), tokenizer, ASSISTANT, 42)
    forged, alone = "a message holds a control token of the chat template", "there is nothing before the"
    assert reading.refusals.counts == {forged: 5, f"{alone} assistant's first turn": 2}
    assert reading.dropped["refused_by_template"] == reading.refusals.total() == 7
    first = [row for row in ordered(mix, "42:0") if row in mix["id"].to_pylist()[:5]][:3]
    said = "message 1 (user) holds <|eot|>, a control token of the chat template"
    assert reading.refusals.examples[forged] == [{"row": row, "detail": said} for row in first]
    lines = list(reading.refusals.lines())
    assert lines[0] == f"5 rows: {forged}" and lines[1] == f"    the first is row {first[0]}: {said}"
    assert lines[2].startswith(f"2 rows: {alone}") and "end a turn" in reading.refusals.advised()
    check(reading.refusals, reading.passed, 7 / 8)
    with pytest.raises(ParamError) as told:
        check(reading.refusals, reading.passed, 0.5)
    assert str(told.value).startswith(
        "train.max_refused: the chat template refuses 7 of the 8 rows read (87.50%), more than 50.00%."
    )
    assert all(line in str(told.value) for line in lines)


def test_a_template_that_says_something_else_of_every_row(tokenizer):
    refusals = Refusals()
    for n in range(30):
        refusals.add(f"row {n}", Refusal(f"reason {n}", "", ""))
    assert len(refusals.counts) == 21 and refusals.counts["other reasons"] == 10


def test_no_refusal_is_within_any_limit():
    check(Refusals(), 0, 0.0)


@pytest.mark.parametrize(
    ("conversation", "shape", "reason"),
    [
        (dialogue("Aq", "B" * 100), RowShape(50, "drop", "assistant"), "'too_long': 3"),
        (dialogue("A" * 100, "B"), RowShape(50, "truncate", "assistant"), "'no_loss_tokens': 3"),
        (dialogue("<|eot|>", "B"), ASSISTANT, "'refused_by_template': 3"),
    ],
)
def test_no_usable_row(tokenizer, conversation, shape, reason):
    with pytest.raises(UserError, match=r"none of the 3 mix rows can be trained on") as caught:
        read(table([conversation] * 3), rows(1), tokenizer, shape, 42)
    # What to do fits the reason.
    assert reason in str(caught.value)
    assert (f"Raise train.max_length (now {shape.max_length})" in str(caught.value)) == (
        "refused" not in reason
    )
    assert ("message 1 (user) holds <|eot|>" in str(caught.value)) == ("refused" in reason)


def test_a_template_that_tells_no_answer_apart_is_an_error_not_a_dropped_row(tmp_path):
    """Left out row by row, such a model would read the whole mix in vain."""
    glued = TEMPLATE.replace("assistant\n", "assistant says: ")
    tokenizer = load_tokenizer(save_model(tmp_path, template=glued))
    with pytest.raises(UserError, match=r"train\.loss_on: all"):
        read(numbered(3), rows(1), tokenizer, ASSISTANT, 42)
    assert len(read(numbered(3), rows(1), tokenizer, RowShape(512, "truncate", "all"), 42).rows) == 1


@pytest.mark.parametrize(("wanted", "usable"), [(2, 2), (3, 3), (6, 4)])
def test_validation_reads_no_row_twice(tokenizer, wanted, usable):
    """Of 6 rows 2 are too long: there are no more than 4, in the order of training's first epoch."""
    held_out = table([dialogue(f"Q{n}", "B" * (100 if n % 3 == 0 else 1)) for n in range(6)])
    validation = read_validation(held_out, wanted, tokenizer, RowShape(30, "drop", "assistant"), 42)
    assert len(validation.rows) == len(set(validation.ids)) == usable
    kept = [row for row in ordered(held_out, "42:0") if row not in held_out["id"].to_pylist()[::3]]
    assert validation.ids == kept[:usable]
    assert validation.dropped["too_long"] == (2 if wanted == 6 else validation.passed - usable)


def test_no_usable_validation_row(tokenizer):
    held_out = table([dialogue(f"Q{n}", "B" * 100) for n in range(3)])
    with pytest.raises(UserError, match="none of the 3 validation rows"):
        read_validation(held_out, 2, tokenizer, RowShape(30, "drop", "assistant"), 42)
