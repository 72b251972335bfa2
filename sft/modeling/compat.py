"""What the model's code uses of other packages beyond their public interfaces, in one place.

tests/modeling/test_compat.py touches each, and says what to look at when a new version has moved it.
"""

import inspect
from functools import cache
from typing import Any


def forget_quantization(model: Any) -> None:
    """Have transformers take a dequantized model for a plain one, which can be saved."""
    model.hf_quantizer = None
    del model.config.quantization_config


def is_lora(name: str) -> bool:
    """Tell by a module's full name whether it is a matrix of one of PEFT's LoRAs."""
    return ".lora_" in name


@cache
def varlen_asks_for_grouping() -> bool:
    """Tell whether PyTorch's varlen_attn groups heads only where it is asked to, by `enable_gqa`.

    torch 2.11 has no such argument and groups them unasked.
    """
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters
