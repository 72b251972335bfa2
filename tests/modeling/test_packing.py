"""Rows packed end to end: nothing passes between them, and cutting a step changes nothing but memory."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from sft.core.errors import UserError
from sft.modeling.labels import IGNORED
from sft.modeling.loading import load_model
from sft.modeling.packed_attention import PACKED
from sft.modeling.packing import cut, pack
from sft.training import fused_lora
from sft.training.chunked_loss import check_head, loss_sum
from sft.training.micro_batches import MicroBatches
from tests.tiny import save_model
from tests.training.test_train import LORA, loss_by_hand, loss_tokens, params, random_rows, trainable


def test_pack():
    rows = [
        {"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]},
        {"input_ids": [8, 9], "labels": [8, 9]},
        {"input_ids": [4], "labels": [4]},
    ]
    packed = pack(rows, "cpu")
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9, 4]]
    assert packed.positions.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert packed.boundaries.tolist() == [0, 3, 5, 6] and packed.boundaries.dtype == torch.int32
    # Each row's first label is predicted by nothing: not by the row before, either.
    assert packed.predicting.tolist() == [0, 1, 3]
    assert packed.targets.tolist() == [6, 7, 9]


def hidden(model, rows):
    with torch.no_grad():
        return model.base_model(**pack(rows, "cpu").inputs()).last_hidden_state[0]


@pytest.mark.parametrize("window", [None, 4])
def test_attention_never_crosses_rows(tmp_path, window):
    """Logits of a row are those of the row alone, and no change in the other rows changes a bit of them."""
    save_model(tmp_path, spread=0.3)
    if window:
        config = (tmp_path / "config.json").read_text().replace('"llama"', '"mistral"')
        config = config.replace("LlamaForCausalLM", "MistralForCausalLM")
        (tmp_path / "config.json").write_text(config.replace("{", f'{{"sliding_window": {window},', 1))
    from sft.modeling import packed_attention
    from sft.modeling.loading import resolve

    packed_attention.register()
    base = resolve(str(tmp_path))
    model = load_model(base, "float32", "cpu", attention=PACKED).eval()
    plain = load_model(base, "float32", "cpu").eval()
    rows = random_rows(6)
    together, start = model.lm_head(hidden(model, rows)), 0
    for row in rows:
        end = start + len(row["input_ids"])
        with torch.no_grad():
            alone = plain(torch.tensor([row["input_ids"]])).logits[0]
        assert torch.allclose(together[start:end], alone, atol=1e-4)
        changed = [
            other if other is row else {**other, "input_ids": [t ^ 1 for t in other["input_ids"]]}
            for other in rows
        ]
        assert torch.equal(model.lm_head(hidden(model, changed))[start:end], together[start:end])
        start = end


@pytest.mark.parametrize("tokens", [1, 10, 50, 64, 100, 1000])
def test_cut(tokens):
    lengths = [len(row["input_ids"]) for row in random_rows(20)]
    parts = cut(lengths, tokens)
    assert sorted(n for part in parts for n in part) == list(range(20))
    sizes = [sum(lengths[n] for n in part) for part in parts]
    assert all(size <= tokens or len(part) == 1 for size, part in zip(sizes, parts, strict=True))
    assert len(parts) >= -(-sum(lengths) // tokens) or len(parts) == 20
    if tokens >= 100:  # even: the largest part is not much larger than the mean
        assert max(sizes) <= 1.3 * sum(sizes) / len(sizes)
    assert parts == cut(lengths, tokens)


@pytest.mark.parametrize("chunk", [300, 2**27])
def test_the_loss_and_its_gradient_are_the_plain_ones(tiny, chunk, monkeypatch):
    """Whatever the chunk: 300 scores at a time are one token."""
    monkeypatch.setattr("sft.training.chunked_loss.CHUNK", chunk)
    model, _ = trainable(tiny)
    check_head(model)
    rows = random_rows(5)
    loss = loss_sum(model, pack(rows, model.device))
    loss.backward()
    assert loss.item() / loss_tokens(rows) == pytest.approx(loss_by_hand(model, rows), abs=1e-5)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    total = sum(
        torch.nn.functional.cross_entropy(
            model(input_ids=torch.tensor([row["input_ids"]], device=model.device)).logits[0, :-1],
            torch.tensor(row["labels"][1:], device=model.device),
            reduction="sum",
        )
        for row in rows
    )
    total.backward()
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert torch.allclose(gradients[name], p.grad, rtol=1e-3, atol=1e-4), name
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients.values())


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_a_step_cut_any_way_has_the_same_gradient(tiny, parts):
    model, _ = trainable(tiny)
    rows = random_rows(8)

    def gradients(size):
        model.zero_grad()
        for start in range(0, 8, size):
            (loss_sum(model, pack(rows[start : start + size], model.device)) / loss_tokens(rows)).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}

    whole, cuts = gradients(8), gradients(8 // parts)
    for name, gradient in whole.items():
        assert (cuts[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name


def test_the_fused_lora_is_pefts(tiny):
    def made(fused):
        torch.manual_seed(1)
        config = LoraConfig(r=4, lora_alpha=12, target_modules=LORA.target_modules, task_type="CAUSAL_LM")
        model = get_peft_model(load_model(tiny, "float32", "cpu"), config)
        for name, p in model.named_parameters():
            if "lora_B" in name:  # zero at first, which would hide what A does
                torch.nn.init.normal_(p, std=0.1)
        if fused:
            fused_lora.fuse(model)
        logits = model(torch.tensor([list(range(20, 60))])).logits
        logits.square().mean().backward()
        return logits, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    (logits, gradients), (expected, theirs) = made(True), made(False)
    assert torch.allclose(logits, expected, atol=1e-4)
    assert gradients.keys() == theirs.keys() and len(gradients) == 16
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-3, atol=1e-6), name
        assert gradient.abs().max() > 1e-5


@torch.no_grad()
def test_the_fused_lora_can_be_switched_off_and_merged(tiny):
    model, _ = trainable(tiny)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    ids = torch.tensor([list(range(20, 60))], device=model.device)
    with_lora = model(ids).logits
    with model.disable_adapter():
        base = load_model(tiny, "float32", str(model.device))(ids).logits
        assert torch.allclose(model(ids).logits, base, atol=1e-4)
    assert not torch.allclose(with_lora, base, atol=1e-2)
    model.merge_adapter()
    assert torch.allclose(model(ids).logits, with_lora, atol=1e-3)


def test_attention_that_is_more_than_that_is_refused():
    from sft.modeling.packed_attention import packed_attention

    q = torch.randn(1, 2, 5, 8)
    for more in ({"dropout": 0.1}, {"softcap": 30.0}, {"s_aux": torch.zeros(2)}):
        with pytest.raises(UserError, match="dropout, capped scores or sinks"):
            packed_attention(None, q, q, q, None, **more)


def test_the_loss_of_a_float16_head():
    """Its gradient, scaled on the way, is float32's."""
    from sft.training.chunked_loss import _HeadLoss

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5000, 16, generator=generator)
    hidden = torch.randn(20, 16, generator=generator) * 2
    targets = torch.arange(20)
    gradients = {}
    for dtype in (torch.float32, torch.float16):
        rows = hidden.clone().to(dtype).detach().requires_grad_()
        (_HeadLoss.apply(rows, weight.to(dtype), None, targets) * 8).backward()
        gradients[dtype] = rows.grad.float()
    assert torch.allclose(gradients[torch.float16], gradients[torch.float32], rtol=2e-2, atol=0.1)
    plain = hidden.clone().requires_grad_()
    (torch.nn.functional.cross_entropy(plain @ weight.T, targets, reduction="sum") * 8).backward()
    assert torch.allclose(gradients[torch.float32], plain.grad, atol=1e-3)


def test_lora_with_dropout_stays_pefts(tiny):
    config = LoraConfig(r=4, lora_dropout=0.5, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(load_model(tiny, "float32", "cpu"), config)
    fused_lora.fuse(model)
    assert all("forward" not in vars(module) for module in model.modules())


def doing(limit, done):
    """Make a step that runs out of memory above `limit` tokens."""

    def do(part):
        if sum(len(row["input_ids"]) for row in part) > limit:
            raise torch.OutOfMemoryError("too much")
        done.append(part)
        return torch.tensor(float(len(part)))

    return do


@pytest.mark.parametrize(("unit", "limit"), [("rows", 8), ("tokens", 1000)])
def test_out_of_memory_halves_the_micro_batch(unit, limit, capsys):
    rows, done, undone = random_rows(8), [], []
    micro_batches = MicroBatches(unit, limit)

    def undo():
        undone.append(len(done))
        done.clear()

    assert micro_batches.run(rows, doing(90, done), undo) == 8
    assert sum(map(len, done)) == 8 and len(done) > 1 and undone
    assert micro_batches.halvings == len(undone) and micro_batches.limit < limit
    assert capsys.readouterr().err.count("out of memory: micro-batches of") == len(undone)
    before = micro_batches.halvings
    micro_batches.run(rows, doing(90, done), undo)  # the next step starts from what was learnt
    assert micro_batches.halvings == before


@pytest.mark.parametrize("unit", ["rows", "tokens"])
def test_a_row_that_does_not_fit(unit, capsys):
    rows, asked = random_rows(4), []
    longest = max(len(row["input_ids"]) for row in rows)
    limit = [longest - 1]

    def checkpoint():
        asked.append(True)
        limit[0] = longest
        return len(asked) == 1

    def do(part):
        return doing(limit[0], [])(part)

    micro_batches = MicroBatches(unit, 1000, checkpoint)
    assert micro_batches.run(rows, do, lambda: None) == 4
    assert micro_batches.checkpointing and asked == [True]
    assert "gradient checkpointing from here on" in capsys.readouterr().err
    with pytest.raises(UserError, match=rf"a row of {longest} tokens does not fit by itself"):
        MicroBatches(unit, 1000).run(rows, doing(longest - 1, []), lambda: None)


def test_training_goes_on_after_out_of_memory(tiny, monkeypatch, capsys):
    """The losses are those of a run that never ran out, though the first try had added up gradients."""
    from sft.training.train import train

    rows = random_rows(12)

    def losses(**changed):
        logs = train(*trainable(tiny), rows, random_rows(4, 1), params(**changed), "float32")
        return [entry["loss"] for entry in [*logs.steps, *logs.validation]], logs.micro_batch

    expected, cut_before = losses(micro_batch=2)
    not_captured = {"gradient_checkpointing": False, "captured_tokens": 0, "graphs": 0}
    assert cut_before == {"rows": 2, "out_of_memory": 0} | not_captured
    calls = []

    def failing(model, packed, inputs):
        if torch.is_grad_enabled():
            calls.append(len(packed.lengths))
            if len(calls) == 2:  # the second micro-batch of a step: the first has left its gradient
                raise torch.OutOfMemoryError("too much")
        return loss_sum(model, packed, inputs)

    monkeypatch.setattr("sft.training.chunked_loss.loss_sum", failing)
    after, cut_after = losses(micro_batch=2)
    assert cut_after == {"rows": 1, "out_of_memory": 1} | not_captured
    assert after == pytest.approx(expected, rel=1e-5)
    assert "out of memory: micro-batches of 1 rows" in capsys.readouterr().err


def test_models_whose_logits_are_scaled_are_refused(tiny):
    model, _ = trainable(tiny)
    model.config.logit_scale = 0.5
    with pytest.raises(UserError, match=r"scales its logits \(logit_scale\)"):
        check_head(model)
    model.config.logit_scale = 1.0
    check_head(model)


def test_the_output_layer_cannot_be_a_target(tiny):

    model, _ = trainable(tiny, LORA.model_copy(update={"target_modules": ["lm_head"]}))
    with pytest.raises(UserError, match=r"target_modules: the output layer \(lm_head\)"):
        check_head(model)
