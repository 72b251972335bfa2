"""LoRA on a base model, by PEFT."""

from typing import Any, Self

from pydantic import model_validator

from sft.core.errors import ParamError
from sft.core.params import Count, Params, Share, Text


class LoraParams(Params):
    """`train.lora`: rank, scale (alpha / r), dropout, and the names of the linear layers to adapt."""

    r: Count
    alpha: Count
    dropout: Share
    target_modules: list[Text]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.target_modules:
            raise ParamError("train.lora.target_modules: the list is empty. Name one layer at least.")
        return self


def check_targets(model: Any, targets: list[str]) -> None:
    """Raise ParamError for a target that names no linear layer of the model, listing those it has."""
    import torch

    linear = {
        name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
    }
    for target in targets:
        if target not in linear:
            raise ParamError(
                f"train.lora.target_modules: the model has no linear layer {target!r}. "
                f"It has: {', '.join(sorted(linear))}."
            )


def add_lora(model: Any, params: LoraParams, seed: int) -> Any:
    """Wrap `model` with a freshly initialised LoRA; the same seed gives the same weights."""
    import torch
    from peft import LoraConfig, get_peft_model

    check_targets(model, params.target_modules)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=params.r,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=params.target_modules,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)
