"""Supervised fine-tuning by TRL's SFTTrainer on rows that are tokenized and ordered beforehand."""

import importlib.util
import math
import tempfile
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sft.budget import loss_tokens
from sft.engines import Engine
from sft.errors import UserError
from sft.lora import LoraParams
from sft.params import Count


@dataclass
class TrainParams:
    """`train`: the budget (steps of batch_size rows), the rows' shape, the optimizer and the LoRA.

    `batch_size` counts the rows of one optimizer step; it is cut into `batch_size / micro_batch` forward
    and backward passes, and the loss is the mean over the loss tokens of the whole step.
    """

    engine: Engine
    seed: int
    steps: Count
    batch_size: Count
    micro_batch: Count
    max_length: Count
    too_long: Literal["truncate", "drop"]
    loss_on: Literal["assistant", "all"]
    learning_rate: float
    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup_steps: int
    weight_decay: float
    optimizer: Literal["adamw_torch", "adamw_8bit"]
    gradient_checkpointing: bool
    validation_rows: Count
    validation_every: Count
    lora: LoraParams

    def __post_init__(self) -> None:
        """Raise UserError for values that do not go together."""
        if self.batch_size % self.micro_batch:
            raise UserError(
                f"params.yaml: train.micro_batch: {self.micro_batch} does not divide "
                f"train.batch_size ({self.batch_size})."
            )
        if self.learning_rate <= 0:
            raise UserError(f"params.yaml: train.learning_rate: {self.learning_rate} is not above 0.")
        for name in ("warmup_steps", "weight_decay"):
            if getattr(self, name) < 0:
                raise UserError(f"params.yaml: train.{name}: {getattr(self, name)} is below 0.")
        if not 0 <= self.seed < 2**32:  # numpy's range
            raise UserError(f"params.yaml: train.seed: {self.seed} is not from 0 to {2**32 - 1}.")


@dataclass
class Logs:
    """What the trainer logged: one entry a step, one a validation, and the seconds validating took."""

    steps: list[dict[str, float]]
    validation: list[dict[str, float]]
    validation_seconds: float


def train(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, list[int]]],
    validation: list[dict[str, list[int]]],
    params: TrainParams,
    dtype: str,
) -> Logs:
    """Train the PEFT `model` in place on `rows`, in their order, for `params.steps` steps.

    `rows` holds steps x batch_size entries of `input_ids` and `labels`. Validation loss is taken before
    the first step, every `validation_every` steps and after the last.
    """
    rows = by_length_within_steps(rows, params.batch_size)
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from transformers.utils import logging
    from trl import SFTConfig

    logging.set_verbosity_error()
    cuda = torch.cuda.is_available()
    if cuda:
        # cuDNN plans anew for every sequence length, which costs more than the attention itself.
        torch.backends.cuda.enable_cudnn_sdp(False)
    if dtype == "float16" and not cuda:
        raise UserError(
            "params.yaml: model.dtype: float16 trains on a GPU only. Use bfloat16 or float32 here."
        )
    if params.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "params.yaml: train.optimizer: adamw_8bit needs bitsandbytes, which is not installed. "
            "Install it with pip install -r requirements.txt, or use adamw_torch."
        )
    set_seed(params.seed)
    with tempfile.TemporaryDirectory() as scratch:
        config = SFTConfig(
            output_dir=scratch,
            max_steps=params.steps,
            per_device_train_batch_size=params.micro_batch,
            per_device_eval_batch_size=params.micro_batch,
            gradient_accumulation_steps=params.batch_size // params.micro_batch,
            learning_rate=params.learning_rate,
            lr_scheduler_type=params.lr_scheduler,
            warmup_steps=params.warmup_steps,
            weight_decay=params.weight_decay,
            optim=params.optimizer,
            bf16=dtype == "bfloat16",
            fp16=dtype == "float16",
            gradient_checkpointing=params.gradient_checkpointing,
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
        # On a machine of several GPUs the trainer would multiply the batch by their number.
        assert config.device is not None
        config._n_gpu = min(config.n_gpu, 1)
        trainer = trainer_class(validation)(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(validation),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(progress_bar())
        trainer.train()
    logs = _logs(trainer.state.log_history)
    for entry in [*logs.steps, *logs.validation]:
        if not math.isfinite(entry["loss"]):
            raise UserError(
                f"training diverged: the loss is {entry['loss']} at step {entry['step']}. Lower "
                f"train.learning_rate (now {params.learning_rate}), or use another model.dtype (now {dtype})."
            )
    return logs


def by_length_within_steps(rows: list[dict[str, list[int]]], batch_size: int) -> list[dict[str, list[int]]]:
    """Sort each step's rows by length, so that a micro-batch pads little; the step stays the same rows."""
    return [
        row
        for start in range(0, len(rows), batch_size)
        for row in sorted(rows[start : start + batch_size], key=lambda row: -len(row["input_ids"]))
    ]


def trainer_class(validation: list[dict[str, list[int]]]) -> Any:
    """Make an SFTTrainer whose validation loss is the mean over all loss tokens, as a step's loss is.

    The trainer's own weighs a batch by its rows, so the loss of the same model and rows would change with
    `micro_batch`.
    """
    from trl import SFTTrainer

    tokens_a_row = sum(loss_tokens(row["labels"]) for row in validation) / len(validation)

    class TokenWeightedTrainer(SFTTrainer):
        def prediction_step(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
            labels = inputs["labels"].tolist()
            loss, *rest = super().prediction_step(model, inputs, *args, **options)
            return loss * (sum(map(loss_tokens, labels)) / len(labels) / tokens_a_row), *rest

    return TokenWeightedTrainer


def progress_bar() -> Any:
    """Make a trainer callback that shows one bar with the last losses, in place of a line a step."""
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class ProgressBar(TrainerCallback):
        bar: Any = None
        shown: ClassVar[dict[str, str]] = {}

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar = tqdm(total=state.max_steps, desc="training", unit="step", mininterval=1)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name, shown in (("loss", "loss"), ("eval_loss", "validation")):
                if name in (logs or {}):
                    self.shown[shown] = f"{float(logs[name]):.3f}"
            self.bar.set_postfix(self.shown, refresh=False)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

    return ProgressBar()


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
    return Logs(steps, validation, seconds)
