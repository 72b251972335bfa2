"""Training a tiny model: the order of the rows, the loss of a step, the adapter's files, and refusals."""

import copy
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sft.core.errors import MissingFile, UserError
from sft.modeling import adapter
from sft.modeling.labels import IGNORED
from sft.modeling.loading import ModelParams, load_model, load_tokenizer, resolve
from sft.training.checkpoints import Checkpoints
from sft.training.engines import ENGINES
from sft.training.lora import LoraParams, add_lora
from sft.training.train import check_machine, train
from sft.training.train_params import TrainParams
from tests.imports import ROOT
from tests.tiny import folder_bytes

LORA = LoraParams(r=4, alpha=8, dropout=0.0, target_modules=["q_proj", "v_proj", "k_proj", "o_proj"])
PARAMS = TrainParams(
    engine="trl",
    seed=42,
    devices=1,
    budget="3 steps",
    batch_size=4,
    micro_batch=2,
    max_length=64,
    too_long="truncate",
    loss_on="assistant",
    reasoning="train",
    reasoning_fallback="text",
    max_refused=0.01,
    learning_rate=1e-2,
    lr_scheduler="linear",
    warmup_steps=0,
    weight_decay=0.01,
    optimizer="adamw_torch",
    gradient_checkpointing=False,
    deterministic=True,
    validation_rows=4,
    validation_every=2,
    lora=LORA,
)


def params(**changed):
    if "steps" in changed:
        changed["budget"] = f"{changed.pop('steps')} steps"
    return TrainParams(**{**dict(PARAMS), **changed})


def trainable(tiny, lora=LORA, dtype="float32"):
    params = ModelParams(reference=tiny.reference, dtype=dtype, load_in_4bit=False)
    return ENGINES["trl"].load(tiny, params, lora, 64, 42), load_tokenizer(tiny)


def random_rows(count, seed=0):
    """Make rows of 5 to 40 tokens, of which the first 2 to 30 take no part in the loss."""
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    rows = []
    for _ in range(count):
        ids = torch.randint(0, 256, (number(5, 41),), generator=generator).tolist()
        start = number(2, min(30, len(ids) - 1))
        rows.append({"input_ids": ids, "labels": [IGNORED] * start + ids[start:]})
    return rows


def loss_tokens(rows):
    return sum(label != IGNORED for row in rows for label in row["labels"][1:])


@torch.no_grad()
def loss_by_hand(model, rows):
    """Return the mean over all loss tokens of all rows, each row read alone, without padding."""
    total = 0.0
    for row in rows:
        logits = (
            model(input_ids=torch.tensor([row["input_ids"]], device=model.device)).logits[0, :-1].double()
        )
        labels = torch.tensor(row["labels"][1:], device=model.device)
        total += torch.nn.functional.cross_entropy(
            logits, labels, ignore_index=IGNORED, reduction="sum"
        ).item()
    return total / loss_tokens(rows)


def test_rows_are_read_in_the_order_given(tiny):
    """At a rate that changes nothing, each step's loss tells which row it read."""
    model, tokenizer = trainable(tiny)
    rows = random_rows(12)
    expected = [loss_by_hand(model, [row]) for row in rows]
    assert len({round(loss, 3) for loss in expected}) == 12
    slow = params(steps=12, batch_size=1, micro_batch=1, learning_rate=1e-12, validation_every=50)
    logs = train(model, tokenizer, rows, random_rows(2, 1), slow, "float32")
    assert [entry["step"] for entry in logs.steps] == list(range(1, 13))
    assert [entry["loss"] for entry in logs.steps] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 2, 4, "auto"])
def test_the_loss_of_a_step_is_the_mean_over_its_loss_tokens(tiny, micro_batch):
    model, tokenizer = trainable(tiny)
    start = copy.deepcopy(model)
    rows = random_rows(8)
    logs = train(
        model,
        tokenizer,
        rows,
        random_rows(4, 1),
        params(steps=2, micro_batch=micro_batch, learning_rate=0.1),
        "float32",
    )
    by_hand = loss_by_hand(start, rows[:4])
    assert logs.steps[0]["loss"] == pytest.approx(by_hand, abs=1e-5)
    mean_of_rows = sum(loss_by_hand(start, [row]) for row in rows[:4]) / 4
    assert abs(mean_of_rows - by_hand) > 1e-2  # the rows tell the two means apart
    # One step of AdamW by hand, at the rate of the first of two steps: the second step's loss.
    optimizer = torch.optim.AdamW(
        [p for p in start.parameters() if p.requires_grad], lr=0.1, betas=(0.9, 0.999), weight_decay=0.01
    )
    total = sum(
        torch.nn.functional.cross_entropy(
            start(input_ids=torch.tensor([row["input_ids"]], device=start.device)).logits[0, :-1],
            torch.tensor(row["labels"][1:], device=start.device),
            ignore_index=IGNORED,
            reduction="sum",
        )
        for row in rows[:4]
    )
    (total / loss_tokens(rows[:4])).backward()
    torch.nn.utils.clip_grad_norm_(start.parameters(), 1.0)
    optimizer.step()
    assert logs.steps[1]["loss"] == pytest.approx(loss_by_hand(start, rows[4:]), abs=1e-4)


@pytest.mark.parametrize("micro_batch", [1, 2, 4, "auto"])
def test_validation_loss(tiny, micro_batch):
    """It is taken before the first step, every so many steps and after the last, and mends nothing."""
    model, tokenizer = trainable(tiny)
    start = copy.deepcopy(model)
    rows, validation = random_rows(12), random_rows(4, 1)
    logs = train(model, tokenizer, rows, validation, params(micro_batch=micro_batch), "float32")
    assert [entry["step"] for entry in logs.validation] == [0, 2, 3]
    assert logs.validation_seconds > 0
    assert logs.validation[0]["loss"] == pytest.approx(loss_by_hand(start, validation), abs=1e-5)
    assert logs.validation[-1]["loss"] == pytest.approx(loss_by_hand(model, validation), abs=1e-5)
    often = train(
        *trainable(tiny), rows, validation, params(micro_batch=micro_batch, validation_every=1), "float32"
    )
    assert [entry["loss"] for entry in often.steps] == [entry["loss"] for entry in logs.steps]
    assert [entry["step"] for entry in often.validation] == [0, 1, 2, 3]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_rows_can_be_learnt_by_heart(tiny, checkpointing):
    model, tokenizer = trainable(tiny)
    rows = random_rows(2)
    repeated = params(
        steps=20, batch_size=2, learning_rate=0.05, validation_every=20, gradient_checkpointing=checkpointing
    )
    logs = train(model, tokenizer, rows * 20, rows, repeated, "float32")
    assert logs.steps[-1]["loss"] < logs.steps[0]["loss"] / 2
    assert logs.validation[-1]["loss"] == pytest.approx(loss_by_hand(model, rows), abs=1e-4)
    changed = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert changed and all("lora_" in name for name in changed)


def made(base: Path, folder: Path) -> None:
    """Train an adapter, and save it."""
    model, tokenizer = trainable(resolve(str(base)), dtype="bfloat16")
    train(model, tokenizer, random_rows(8), random_rows(2, 1), params(steps=2), "bfloat16")
    adapter.save(model, folder, "pypi://some-model==1.0", "0123abcd")


PROGRAM = """
import sys
from pathlib import Path
from tests.training.test_train import made

made(*map(Path, sys.argv[1:]))
"""


def test_the_adapter_is_the_same_in_every_process(tiny, tmp_path):
    """In this one, and in one with another order of sets."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    command = [sys.executable, "-c", PROGRAM, str(tiny.path), str(tmp_path / "there")]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    made(tiny.path, tmp_path / "here")
    one, two = (folder_bytes(tmp_path / where) for where in ("here", "there"))
    assert sorted(one) == ["adapter_config.json", "adapter_model.safetensors"]
    assert one == two
    config = json.loads(one["adapter_config.json"])
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert (config["base_model_name_or_path"], config["revision"]) == ("pypi://some-model==1.0", "0123abcd")
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "CAUSAL_LM")
    for content in one.values():
        assert str(tiny.path).encode() not in content and str(tmp_path).encode() not in content


def test_a_saved_adapter_on_the_base_is_the_trained_model(tiny, tmp_path):
    model, tokenizer = trainable(tiny)
    rows = random_rows(12)
    train(model, tokenizer, rows, rows[:4], params(), "float32")
    # PEFT knows a revision too, of a base model that it would load by its name.
    adapter.save(model, tmp_path / "adapter", tiny.reference, "0123abcd")
    base = load_model(tiny, "float32", str(model.device))
    ids = torch.tensor([rows[0]["input_ids"]], device=model.device)
    model.eval()
    with torch.no_grad():
        alone = base(ids).logits
        again = adapter.attach(base, tmp_path / "adapter").eval()(ids).logits
        trained = model(ids).logits
    assert torch.equal(again, trained)
    assert (again - alone).abs().max() > 1e-3


def test_saving_replaces_the_adapter_before(tiny, tmp_path):
    model, _ = trainable(tiny)
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "training_args.bin").write_text("old")
    adapter.save(model, folder, "pypi://some-model==1.0", "0123abcd")
    assert sorted(folder_bytes(folder)) == ["adapter_config.json", "adapter_model.safetensors"]


def test_no_adapter(tiny, tmp_path):
    with pytest.raises(MissingFile, match=r"adapter_config\.json: no such file"):
        adapter.attach(load_model(tiny, "float32"), tmp_path)


def test_the_seed_makes_the_lora(tiny):
    def weights(seed):
        model = add_lora(load_model(tiny, "float32"), LORA, seed)
        return {name: weight for name, weight in model.named_parameters() if "lora_" in name}

    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_target_that_the_model_has_not(tiny):
    wrong = LORA.model_copy(update={"target_modules": ["q_proj", "query"]})
    with pytest.raises(UserError) as caught:
        trainable(tiny, wrong)
    message = str(caught.value)
    assert message.startswith("train.lora.target_modules: ") and "'query'" in message
    assert all(name in message for name in ("down_proj", "k_proj", "lm_head", "o_proj", "v_proj"))


def test_values_that_do_not_work():
    for changed in ({"warmup_steps": -1}, {"weight_decay": -0.1}, {"seed": -1}, {"seed": 2**32}):
        ((name, value),) = changed.items()
        with pytest.raises(UserError, match=rf"^train\.{name}: {value} is "):
            params(**changed)
    with pytest.raises(UserError, match=r"train\.micro_batch: 3 does not divide train\.batch_size \(4\)"):
        params(micro_batch=3)
    with pytest.raises(UserError, match=r"train\.learning_rate: 0\.0 is not above 0"):
        params(learning_rate=0)


def on(dtype, load_in_4bit=False):
    return ModelParams(reference="some", dtype=dtype, load_in_4bit=load_in_4bit)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU can do this")
def test_what_needs_a_gpu(tiny):
    model = ModelParams(reference=tiny.reference, dtype="float32", load_in_4bit=False)
    with pytest.raises(UserError, match=r"train\.engine: unsloth needs an NVIDIA GPU"):
        ENGINES["unsloth"].load(tiny, model, LORA, 64, 42)
    with pytest.raises(UserError, match=r"model\.dtype: float16 trains on a GPU only"):
        check_machine(params(), on("float16"))
    model = ModelParams(reference=tiny.reference, dtype="float32", load_in_4bit=True)
    with pytest.raises(UserError, match=r"model\.load_in_4bit"):
        ENGINES["trl"].load(tiny, model, LORA, 64, 42)
    with pytest.raises(UserError, match=r"model\.load_in_4bit: 4-bit weights need a GPU"):
        check_machine(params(), on("bfloat16", load_in_4bit=True))


def test_a_run_that_diverges_ends_at_once(tiny, tmp_path):
    """Not after its last step; and what it has kept, which leads there again, is gone."""
    checkpoints = Checkpoints(tmp_path, interval=0)
    fast = params(steps=12, learning_rate=1e18)
    with pytest.raises(UserError) as caught:
        train(*trainable(tiny), random_rows(48), random_rows(2, 1), fast, "float32", checkpoints)
    said = re.fullmatch(r"training diverged: the (.*) is nan at step (\d+) of 12\. (.*)", str(caught.value))
    assert said and int(said[2]) <= 4
    assert said[3] == "Lower train.learning_rate (now 1e+18), or use another model.dtype (now float32)."
    assert checkpoints.last is not None and not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers(tiny):
    model, tokenizer = trainable(tiny)
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(UserError, match=r"^the validation loss is nan before the first step\. .* damaged"):
        train(model, tokenizer, random_rows(12), random_rows(2, 1), params(), "float32")


def test_no_target_at_all():
    with pytest.raises(UserError, match="target_modules: the list is empty"):
        LoraParams(**{**dict(LORA), "target_modules": []})


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_an_optimizer_whose_package_is_missing():
    with pytest.raises(UserError, match="adamw_8bit needs bitsandbytes"):
        check_machine(params(optimizer="adamw_8bit"), on("float32"))
