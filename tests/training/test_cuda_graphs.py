"""Passes filled up to fixed shapes, and replayed: the same gradients as passes over the rows alone.

Without a GPU a replay computes the pass anew on the tensors that were captured, which tests all but the
graph itself; tests/test_gpu.py has that.
"""

import random
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sft.modeling.labels import IGNORED
from sft.modeling.packing import pack, shape_for
from sft.training import chunked_loss, cuda_graphs
from sft.training.chunked_loss import loss_sum
from sft.training.cuda_graphs import GraphRunner
from sft.training.micro_batches import MicroBatches
from sft.training.train import train
from tests.training.test_train import params, random_rows, trainable


def rows_of(*lengths):
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = [torch.randint(0, 256, (length,), generator=generator).tolist() for length in lengths]
    return [{"input_ids": row, "labels": [IGNORED] * (len(row) // 2) + row[len(row) // 2 :]} for row in ids]


def test_shapes_hold_their_rows_and_are_few():
    shapes = set()
    for tokens in range(3, 20_000):
        row = {"input_ids": [0] * tokens, "labels": [IGNORED] * (tokens // 2) + [0] * (tokens - tokens // 2)}
        shape = shape_for([row], 8, 20_000)
        assert tokens <= shape.tokens <= max(32, tokens * 1.125 + 32)
        assert tokens - tokens // 2 <= shape.loss_tokens <= shape.tokens
        shapes.add(shape)
    assert len(shapes) < 100


def test_all_packs_of_a_shape_keep_its_longest_row():
    """The row that fills them up too; and the bound is near, since attention's work is laid out for it."""
    longest_by_shape, fillers = {}, set()
    for seed in range(400):
        generator = random.Random(seed)
        rows = rows_of(*(generator.randint(1, 2 ** (1 + seed % 9)) for _ in range(40)))
        longest = max(len(row["input_ids"]) for row in rows)
        shape = shape_for(rows, 64, most := 512 if seed % 2 else longest)
        packed = pack(rows, "cpu", shape)
        assert max(packed.lengths) <= packed.longest == shape.longest <= max(most, shape.tokens // 8, 32)
        fillers.add(max(packed.lengths) > longest)
        longest_by_shape.setdefault(shape, set()).add(longest)
    assert fillers == {True, False} and max(map(len, longest_by_shape.values())) > 1
    with pytest.raises(ValueError, match="a row of 100 tokens in a shape for 99 at most"):
        pack(rows_of(100, 50), "cpu", shape_for(rows_of(100, 50), 4, 99))


def test_a_filled_pack():
    rows = rows_of(5, 4)
    packed = pack(rows, "cpu", shape_for(rows, 3, 5))
    assert packed.input_ids.shape == (1, 32) and packed.lengths == [5, 4, 23]
    # What fills it is like what is there: its tokens, and positions as far as they go.
    assert packed.input_ids[0, 9:].tolist() == (packed.input_ids[0, :9].tolist() * 3)[:23]
    assert packed.positions[0].tolist() == [*range(5), *range(4), *(list(range(5)) * 5)[:23]]
    assert packed.boundaries.tolist() == [0, 5, 9, 32, 32]
    assert packed.predicting.tolist() == [1, 2, 3, 6, 7, 31, 31, 31]
    assert packed.targets.tolist()[:5] == pack(rows, "cpu").targets.tolist()
    assert packed.targets.tolist()[5:] == [IGNORED] * 3
    assert packed.longest == 32  # the row that fills it up is longer than the rows


def by_hand(model, rows, factor):
    model.zero_grad()
    loss = loss_sum(model, pack(rows, model.device))
    (loss * factor).backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]


def test_replays_have_the_gradients_of_their_own_rows(tiny):
    model, _ = trainable(tiny)
    runner = GraphRunner(model, loss_sum, 100, 4, 90, nullcontext, nullcontext)
    # The first three have one shape; then one too large, one of another shape, and two that are replayed.
    lengths = [(20, 30), (30, 18), (9, 17, 23), (90, 60), (5,), (25, 25), (12, 12, 12, 12)]
    for number, of_these in enumerate(lengths):
        rows, factor = rows_of(*of_these), torch.tensor(0.1 + number)
        expected, gradients = by_hand(model, rows, factor)
        model.zero_grad()
        runner.begin()
        assert runner.run(rows, factor).item() == pytest.approx(expected.item(), rel=1e-5)
        added = [p.grad for p in model.parameters() if p.requires_grad]
        for one, other in zip(added, gradients, strict=True):
            assert (one - other).norm() <= 1e-4 * other.norm() + 1e-9
    assert len(runner.graphs) == 1 and len(runner.seen) == 2


def test_passes_add_up_until_the_next_step_begins(tiny):
    model, _ = trainable(tiny)
    runner = GraphRunner(model, loss_sum, 100, 4, 90, nullcontext, nullcontext)
    parts = [rows_of(20, 30), rows_of(30, 20), rows_of(28, 22)]
    _, expected = by_hand(model, [row for part in parts for row in part], torch.tensor(1.0))
    for _ in range(2):
        model.zero_grad()
        runner.begin()
        for part in parts:
            runner.run(part, torch.tensor(1.0))
        added = [p.grad for p in model.parameters() if p.requires_grad]
        for one, other in zip(added, expected, strict=True):
            assert (one - other).norm() <= 1e-4 * other.norm() + 1e-9


def test_training_by_captured_passes_is_the_same_training(tiny, monkeypatch):
    rows, logs = random_rows(40), []
    for captured in (0, 2_000):
        monkeypatch.setattr(cuda_graphs, "capturable_tokens", lambda *_, tokens=captured: tokens)
        changed = params(steps=10, batch_size=4, micro_batch="auto")
        logs.append(train(*trainable(tiny), rows, random_rows(4, 1), changed, "float32"))
    plain, replayed = logs
    assert plain.micro_batch["graphs"] == plain.micro_batch["captured_tokens"] == 0
    assert replayed.micro_batch["graphs"] > 0 and replayed.micro_batch["captured_tokens"] == 2_000
    # What graphs keep is not planned for anything else.
    assert replayed.micro_batch["tokens"] == plain.micro_batch["tokens"] - 2_000
    same_logs(replayed, plain)


def same_logs(one, two):
    for name in ("loss", "grad_norm"):
        assert [entry[name] for entry in one.steps] == pytest.approx(
            [entry[name] for entry in two.steps], rel=1e-4
        )
    assert [entry["loss"] for entry in one.validation] == pytest.approx(
        [entry["loss"] for entry in two.validation], rel=1e-4
    )


def captured_and_added(runner):
    return bool(runner.graphs) and any(gradient.abs().max() > 0 for gradient in runner.gradients)


def test_out_of_memory_forgets_what_the_step_added_and_the_graphs(tiny, monkeypatch, capsys):
    rows, real, logs, runners = random_rows(40), loss_sum, [], []
    for fails in (False, True):
        raised = []
        runners.clear()

        def greedy(model, packed, inputs, fails=fails, raised=raised):
            # In the second pass of a step, with graphs captured, and with a gradient of the first.
            if fails and not raised and torch.is_grad_enabled() and captured_and_added(runners[-1]):
                raised.append(True)
                raise torch.OutOfMemoryError
            return real(model, packed, inputs)

        class Seen(GraphRunner):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                runners.append(self)

        monkeypatch.setattr(cuda_graphs, "GraphRunner", Seen)
        monkeypatch.setattr("sft.training.micro_batches.CPU_TOKENS", 200)
        monkeypatch.setattr(cuda_graphs, "capturable_tokens", lambda *_: 128)
        monkeypatch.setattr(chunked_loss, "loss_sum", greedy)
        changed = params(steps=10, batch_size=4, micro_batch="auto")
        model, tokenizer = trainable(tiny)
        logs.append(train(model, tokenizer, rows, random_rows(4, 1), changed, "float32"))
        assert bool(raised) == fails
    plain, tried = logs
    assert plain.micro_batch["graphs"] > 0 and plain.micro_batch["out_of_memory"] == 0
    assert tried.micro_batch["graphs"] == 0 and tried.micro_batch["out_of_memory"] == 1
    assert "out of memory: micro-batches of" in capsys.readouterr().err
    same_logs(tried, plain)


def test_a_lora_that_the_loss_does_not_reach_has_no_gradient(tiny):
    model, _ = trainable(tiny)
    model.register_parameter("unreached", torch.nn.Parameter(torch.ones(3)))
    runner = GraphRunner(model, loss_sum, 100, 4, 90, nullcontext, nullcontext)
    for _ in range(3):
        runner.begin()
        runner.run(rows_of(20, 30), torch.tensor(1.0))
    assert model.unreached.grad is None and len(runner.graphs) == 1
    assert sum(p.grad is not None for p in model.parameters()) == len(runner.parameters) - 1


def test_captured_are_passes_of_a_third_of_what_fits():
    """In sizes between which there is room: a little more or less free memory makes no difference."""
    small = on_a_gpu(hidden_size=128, intermediate_size=256)

    def captured(dtype="bfloat16", model=small, **cut):
        return cuda_graphs.capturable_tokens(
            model, dtype, MicroBatches(**{"unit": "tokens", "limit": 31_360, **cut})
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_graphs, "has_varlen", lambda device, dtype, width: dtype != torch.float32)
        assert captured() == captured(limit=30_000) == captured(limit=25_000) == 8_192
        assert captured(limit=40_000) == 12_288 and captured(limit=2) == 0
        assert captured(unit="rows") == captured(checkpointing=True) == captured("float32") == 0
        wide = on_a_gpu(hidden_size=4096, intermediate_size=16384, num_hidden_layers=64)
        assert captured(model=wide, limit=1_000_000) == 2_048  # more would keep a card busy anyway


def on_a_gpu(**config):
    """Return a model that says it is on a GPU, without weights."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(num_attention_heads=2, head_dim=64, **config))
    return SimpleNamespace(
        device=torch.device("cuda"),
        config=model.config,
        get_base_model=lambda: model,
        get_output_embeddings=model.get_output_embeddings,
        named_modules=model.named_modules,
    )
