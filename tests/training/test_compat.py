"""What training uses of other packages beyond their public interfaces is where it is looked for.

A test that fails after an update says what to look at in the new version.
"""

import importlib
import importlib.util
import os
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments
from trl import SFTConfig

from sft.modeling.loading import load_model
from sft.training import compat
from tests.tiny import save_model


@pytest.fixture
def lora(tmp_path):
    model = load_model(save_model(tmp_path), "float32", "cpu")
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def layer_of(model):
    return model.get_base_model().model.layers[0].self_attn.q_proj


def test_the_number_of_gpus(tmp_path):
    config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    look = "transformers.TrainingArguments: where does n_gpu keep the number, and what multiplies by it?"
    assert config.device is not None and hasattr(config, "_n_gpu"), look
    config._n_gpu = 4
    assert config.n_gpu == 4 and config.train_batch_size == 4 * config.per_device_train_batch_size, look
    compat.use_one_gpu(config)
    assert config.n_gpu == 1 and config.train_batch_size == config.per_device_train_batch_size, look


def test_a_rank_is_one_process_to_the_trainer(tmp_path, monkeypatch):
    """Whose batches it would divide, and whose model it would wrap."""
    look = "accelerate.PartialState: by what does it take a process for one of several now?"
    from accelerate import PartialState
    from torch import distributed

    told = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**told, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        PartialState._reset_state()
        with compat.as_one_process():
            state = PartialState(cpu=True)
            assert not state.use_distributed and state.distributed_type == "NO", look
            assert not {"LOCAL_RANK", "WORLD_SIZE"} & set(os.environ), look
        PartialState._reset_state()
        assert PartialState(cpu=True).distributed_type != "NO", look
        assert {name: os.environ[name] for name in told} == told
    finally:
        PartialState._reset_state()
        distributed.destroy_process_group()


def test_lora_without_casting_its_inputs(lora):
    look = "peft.helpers.disable_input_dtype_casting: what keeps a LoRA layer from casting its inputs now?"
    layer, half = layer_of(lora), torch.ones(2, 16, dtype=torch.float16)
    cast = layer._cast_input_dtype
    assert cast(half, torch.float32).dtype == torch.float32, look
    with compat.without_input_casting(lora):
        assert cast(half, torch.float32).dtype == torch.float16, look
    assert cast(half, torch.float32).dtype == torch.float32, look


def test_the_parts_of_a_lora_layer(lora):
    look = "peft.tuners.lora.Linear: how are its base layer, weights, scale, dropout and variants called now?"
    layer = layer_of(lora)
    assert compat.is_plain_lora(layer) and not compat.is_plain_lora(torch.nn.Linear(2, 2)), look
    a, b, scale = compat.active_lora(layer)
    assert (a.shape, b.shape, scale) == ((4, 16), (16, 4), 2.0), look
    with lora.disable_adapter():
        assert compat.active_lora(layer) is None, look
    lora.merge_adapter()
    assert compat.active_lora(layer) is None, look
    lora.unmerge_adapter()
    lora.add_adapter("second", lora.peft_config["default"])
    lora.base_model.set_adapter(["default", "second"])
    assert compat.active_lora(layer) is None, look


@pytest.mark.parametrize("changed", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_a_lora_that_is_more_than_plain(tmp_path, changed):
    model = load_model(save_model(tmp_path), "float32", "cpu")
    config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **changed)
    layer = layer_of(get_peft_model(model, config))
    assert not compat.is_plain_lora(layer), "peft.tuners.lora.Linear: where are dropout and variants?"


def test_sums_of_many_tensors_in_one_launch():
    totals, terms = [torch.ones(2), torch.ones(3)], [torch.ones(2), 2 * torch.ones(3)]
    compat.add(totals, terms)
    assert [t.tolist() for t in totals] == [[2, 2], [3, 3, 3]], "torch._foreach_add_"
    compat.copy(totals, terms)
    assert [t.tolist() for t in totals] == [[1, 1], [2, 2, 2]], "torch._foreach_copy_"
    compat.zero(totals)
    assert all(not t.any() for t in totals), "torch._foreach_zero_"


def test_memory_that_nobody_has_written():
    look = "torch.utils.deterministic.fill_uninitialized_memory: what fills new memory now?"
    before = torch.utils.deterministic.fill_uninitialized_memory
    assert isinstance(before, bool), look
    try:
        compat.leave_new_memory_as_it_is()
        assert torch.utils.deterministic.fill_uninitialized_memory is False, look
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = before


@pytest.mark.skipif(importlib.util.find_spec("unsloth") is None, reason="needs Unsloth")
def test_unsloths_switches():
    """In its sources: importing it needs a GPU, where tests/test_gpu.py trains by it."""
    spec = importlib.util.find_spec("unsloth")
    assert spec and spec.origin
    folder = Path(spec.origin).parent
    dispatch = (folder / "utils" / "attention_dispatch.py").read_text(encoding="utf-8")
    look = "unsloth.utils.attention_dispatch: which varlen attention do packed rows get?"
    assert "_TORCH_VARLEN_ATTN(" in dispatch and "packed_seq_lengths" in dispatch, look
    sources = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    look = "unsloth: what does for_training go back to after a validation?"
    assert "_unsloth_gradient_checkpointing" in sources, look


def test_a_trainer_s_checkpoints(tmp_path):
    look = "transformers.Trainer: what writes and reads a checkpoint, and its parts, now?"

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return {"loss": (self.weight * x).sum()}

    happened = []

    def save(trainer):
        compat.save_state(trainer, tmp_path)
        assert compat.random_state(trainer) == (tmp_path / compat.RANDOM_STATE).read_bytes(), look
        happened.append("saved")

    trainer_class = compat.with_checkpoints(Trainer, save, lambda _, folder: happened.append(folder))

    def train(**resumed):
        config = TrainingArguments(
            str(tmp_path / "own"),
            max_steps=2,
            save_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        )
        rows = [{"x": torch.ones(1)}] * 16
        trainer = trainer_class(Model(), config, train_dataset=rows)
        trainer.train(**resumed)
        return trainer.state.global_step

    assert train() == 2 and happened == ["saved", "saved"], look
    parts = {"optimizer.pt", "scheduler.pt", compat.RANDOM_STATE, "trainer_state.json"}
    assert {path.name for path in tmp_path.iterdir()} - {"own"} == parts, look
    assert not list((tmp_path / "own").rglob("*.safetensors")), look
    happened.clear()
    assert train(resume_from_checkpoint=str(tmp_path)) == 2 and happened == [tmp_path], look


def test_what_mlflow_says_of_what_it_cannot_send():
    look = "mlflow: from which logger does its thread say what it could not send?"
    module = importlib.import_module(compat.MLFLOW_QUEUE)
    assert module._logger.name == compat.MLFLOW_QUEUE, look
    told: list[str] = []
    with compat.mlflow_errors(told.append):
        module._logger.error("Failed to log run data")
    assert told == ["Failed to log run data"], look
