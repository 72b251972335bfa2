"""Supervised fine-tuning by TRL's SFTTrainer on rows that are tokenized and ordered beforehand."""

import importlib.util
import math
import tempfile
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import model_validator

from sft.core.errors import ParamError, UserError
from sft.core.params import Count, Integer, Number, Params, Text
from sft.modeling.labels import Rows
from sft.training.engines import Engine
from sft.training.lora import LoraParams
from sft.training.tokenized_dataset import Budget


class TrainParams(Params):
    """`train`: the budget, the rows' shape, the optimizer and the LoRA.

    `batch_size` counts the rows of one optimizer step, whose loss is the mean over its loss tokens. It is
    cut into forward and backward passes of `micro_batch` rows, or of as many as fit the memory (`auto`).
    """

    engine: Engine
    seed: Integer
    budget: Text
    batch_size: Count
    micro_batch: Literal["auto"] | Count
    max_length: Count
    too_long: Literal["truncate", "drop"]
    loss_on: Literal["assistant", "all"]
    learning_rate: Number
    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup_steps: Integer
    weight_decay: Number
    optimizer: Literal["adamw_torch", "adamw_8bit"]
    gradient_checkpointing: Literal["auto"] | bool
    deterministic: bool
    validation_rows: Count
    validation_every: Count
    lora: LoraParams

    @model_validator(mode="after")
    def _check(self) -> Self:
        Budget.parse(self.budget, self.batch_size)
        if self.micro_batch != "auto" and self.batch_size % self.micro_batch:
            raise ParamError(
                f"train.micro_batch: {self.micro_batch} does not divide train.batch_size ({self.batch_size})."
            )
        if self.learning_rate <= 0:
            raise ParamError(f"train.learning_rate: {self.learning_rate} is not above 0.")
        for name in ("warmup_steps", "weight_decay"):
            if getattr(self, name) < 0:
                raise ParamError(f"train.{name}: {getattr(self, name)} is below 0.")
        if not 0 <= self.seed < 2**32:  # numpy's range
            raise ParamError(f"train.seed: {self.seed} is not from 0 to {2**32 - 1}.")
        return self


@dataclass
class Logs:
    """What the trainer logged: one entry a step, one a validation; and how the work was cut.

    `step_seconds` has one entry a step, validation left out. `micro_batch` is the largest micro-batch, as
    tokens or rows, whether gradients were checkpointed, how often memory ran out, and of the passes recorded
    as CUDA graphs how many tokens they have at most and how many graphs there are at the end.
    """

    steps: list[dict[str, float]]
    validation: list[dict[str, float]]
    validation_seconds: float
    step_seconds: list[float]
    micro_batch: dict[str, Any]


def train(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    validation: Rows,
    params: TrainParams,
    dtype: str,
) -> Logs:
    """Train the PEFT `model` in place on `rows`, in their order, once: in steps of `params.batch_size`.

    `rows` have `input_ids` and `labels`, as arrays or lists. Validation loss
    is taken before the first step, every `validation_every` steps and after the last.
    """
    import torch
    from datasets import Dataset
    from peft.helpers import disable_input_dtype_casting
    from transformers import PrinterCallback, set_seed
    from transformers.utils import logging
    from trl import SFTConfig

    from sft.training.chunked_loss import check_head
    from sft.training.cuda_graphs import recordable
    from sft.training.micro_batches import fit
    from sft.training.packed_trainer import collate, packed_trainer, progress_bar, step_timer

    logging.set_verbosity_error()
    cuda = torch.cuda.is_available()
    check_head(model)
    if cuda:
        # Where rows are attended to one by one: cuDNN plans anew for every length, which costs more than
        # the attention itself.
        torch.backends.cuda.enable_cudnn_sdp(False)
    set_seed(params.seed)
    # Under autocast the inputs of a LoRA need not become float32 first, only to be made 16-bit again.
    with disable_input_dtype_casting(model), tempfile.TemporaryDirectory() as scratch:
        micro_batches = fit(
            model,
            [*rows, *validation],
            params.engine,
            params.micro_batch,
            params.gradient_checkpointing,
            dtype,
        )
        # Unsloth gives SFTConfig other defaults: what decides the mathematics is said in full.
        config = SFTConfig(
            output_dir=scratch,
            max_steps=len(rows) // params.batch_size,
            # A batch is a whole step; PackedTrainer cuts it.
            per_device_train_batch_size=params.batch_size,
            per_device_eval_batch_size=len(validation),
            gradient_accumulation_steps=1,
            max_grad_norm=1.0,
            learning_rate=params.learning_rate,
            lr_scheduler_type=params.lr_scheduler,
            warmup_steps=params.warmup_steps,
            weight_decay=params.weight_decay,
            adam_beta1=0.9,
            adam_beta2=0.999,
            adam_epsilon=1e-8,
            optim=params.optimizer,
            bf16=dtype == "bfloat16",
            fp16=dtype == "float16",
            gradient_checkpointing=micro_batches.checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            loss_type="nll",
            max_length=None,
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            train_sampling_strategy="sequential",
            eval_strategy="steps",
            eval_steps=params.validation_every,
            eval_on_start=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            logging_nan_inf_filter=False,
            disable_tqdm=True,
            use_cpu=not cuda,
            seed=params.seed,
            data_seed=params.seed,
            dataloader_num_workers=0,
        )
        # The trainer makes the LoRA of a 4-bit model 16-bit, in which small updates are lost.
        weights = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        # On a machine of several GPUs the trainer would multiply the batch by their number.
        assert config.device is not None
        config._n_gpu = min(config.n_gpu, 1)
        # Unsloth's forward takes the rows' lengths to the host, which a graph cannot.
        recorded = recordable(model, dtype, micro_batches) if params.engine == "trl" else 0
        micro_batches.limit -= recorded
        longest = max(len(row["input_ids"]) for row in rows)
        trainer = packed_trainer(micro_batches, params.deterministic, recorded, longest)(
            model=model,
            args=config,
            data_collator=collate,
            train_dataset=Dataset.from_list(rows).with_format("numpy"),
            eval_dataset=Dataset.from_list(validation).with_format("numpy"),
            processing_class=tokenizer,
        )
        for name, weight in weights.items():
            model.get_parameter(name).data = weight
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(progress_bar())
        timer = step_timer()
        trainer.add_callback(timer)
        trainer.train()
    logs = _logs(trainer.state.log_history)
    for entry in [*logs.steps, *logs.validation]:
        if not math.isfinite(entry["loss"]):
            raise UserError(
                f"training diverged: the loss is {entry['loss']} at step {entry['step']}. Lower "
                f"train.learning_rate (now {params.learning_rate}), or use another model.dtype (now {dtype})."
            )
    logs.step_seconds = timer.seconds
    logs.micro_batch = {
        micro_batches.unit: micro_batches.limit,
        "gradient_checkpointing": micro_batches.checkpointing,
        "out_of_memory": micro_batches.halvings,
        "recorded_tokens": recorded,
        "graphs": len(trainer.recorder.graphs) if trainer.recorder else 0,
    }
    return logs


def check_machine(params: TrainParams, dtype: str) -> None:
    """Raise UserError for what this machine, or the packages on it, cannot do."""
    import torch

    if dtype == "float16" and not torch.cuda.is_available():
        raise ParamError("model.dtype: float16 trains on a GPU only. Use bfloat16 or float32 here.")
    if params.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ParamError(
            "train.optimizer: adamw_8bit needs bitsandbytes, which is not installed. "
            "Install it with pip install -r requirements.txt, or use adamw_torch."
        )


def _logs(history: list[dict[str, float]]) -> Logs:
    steps = [
        {
            "step": entry["step"],
            "loss": entry["loss"],
            "learning_rate": entry["learning_rate"],
            "grad_norm": entry["grad_norm"],
        }
        for entry in history
        if "loss" in entry
    ]
    validation = [
        {"step": entry["step"], "loss": entry["eval_loss"]} for entry in history if "eval_loss" in entry
    ]
    seconds = sum(entry["eval_runtime"] for entry in history if "eval_loss" in entry)
    return Logs(steps, validation, seconds, [], {})
