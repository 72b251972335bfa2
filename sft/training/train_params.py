"""The params of training, and what is refused of them."""

from typing import Literal, Self

from pydantic import model_validator

from sft.core.errors import ParamError
from sft.core.params import Count, Integer, Number, Params, Share, Text
from sft.training.budget import Budget
from sft.training.engines import ENGINES
from sft.training.lora import LoraParams


class TrainParams(Params):
    """`train`: the budget, the rows' shape, the optimizer and the LoRA.

    `batch_size` counts the rows of one optimizer step, whose loss is the mean over its loss tokens. It is
    cut into forward and backward passes of `micro_batch` rows, or of as many as fit the memory (`auto`).
    `reasoning` says whether the loss is over thoughts too, `reasoning_fallback` what becomes of them where
    the chat template has no place for them, `max_refused` which share of the rows read it may refuse.
    `devices` share the rows of each step.
    """

    engine: Literal["trl", "unsloth"]  # the names in sft.training.engines.ENGINES
    seed: Integer
    devices: Count
    budget: Text
    batch_size: Count
    micro_batch: Literal["auto"] | Count
    max_length: Count
    too_long: Literal["truncate", "drop"]
    loss_on: Literal["assistant", "all"]
    reasoning: Literal["train", "mask", "drop"]
    reasoning_fallback: Literal["text", "refuse"]
    max_refused: Share
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
        if self.devices > self.batch_size:
            raise ParamError(
                f"train.devices: {self.devices} devices cannot share the {self.batch_size} rows of a step "
                "(train.batch_size): each takes one at least. Use fewer devices, or more rows."
            )
        if self.devices > 1 and not ENGINES[self.engine].trains_on_several_devices:
            others = [name for name, engine in ENGINES.items() if engine.trains_on_several_devices]
            raise ParamError(
                f"train.devices: {self.engine} trains on one device here, not on {self.devices}. "
                f"Use train.engine: {' or '.join(others)}, or one device."
            )
        if self.learning_rate <= 0:
            raise ParamError(f"train.learning_rate: {self.learning_rate} is not above 0.")
        for name in ("warmup_steps", "weight_decay"):
            if getattr(self, name) < 0:
                raise ParamError(f"train.{name}: {getattr(self, name)} is below 0.")
        if not 0 <= self.seed < 2**32:  # numpy's range
            raise ParamError(f"train.seed: {self.seed} is not from 0 to {2**32 - 1}.")
        return self
