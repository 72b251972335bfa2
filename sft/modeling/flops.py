"""What a model's work costs in floating-point operations, and what a card can do of them in a second.

Model FLOP utilisation is the first over the second (Chowdhery et al., "PaLM", 2022, appendix B): what the
mathematics asks, not what was computed, so computing something twice counts once. A multiplication with an
addition is 2.
"""

import re
from dataclasses import dataclass
from typing import Any

from sft.modeling import compat
from sft.modeling.architecture import head_width

# Dense 16-bit tensor operations a second, by the vendors' data sheets; the first that matches counts.
CARDS = {
    r"H100.*PCIe": 756e12,
    r"H[12]00.*NVL": 835e12,
    r"H100|H200|GH200": 989e12,
    r"B200|GB200": 2250e12,
    r"A100": 312e12,
    r"L40S": 362e12,
    r"L4\b": 121e12,
    r"A10G?\b": 125e12,
    r"RTX 4090": 165e12,
    r"RTX 3090": 71e12,
    r"V100": 125e12,
    r"\bT4\b": 65e12,
}


def peak(device: str) -> float | None:
    """Return the dense 16-bit operations a second of the card of this name, None for one not known."""
    return next((flops for name, flops in CARDS.items() if re.search(name, device)), None)


def utilisation(flops: float, seconds: float, device: str, dtype: str) -> float | None:
    """Return model FLOP utilisation, or None where the card's peak is not known or not for `dtype`."""
    most = peak(device)
    if most is None or dtype == "float32" or seconds <= 0:
        return None
    return round(flops / seconds / most, 4)


@dataclass
class Cost:
    """A causal language model's sizes: weights of its layers, of its output layer and of its LoRA.

    `attention` is layers x heads x head width: 4 operations of it for each pair of tokens that attend.
    """

    layers: int
    head: int
    lora: int
    attention: int

    @classmethod
    def of(cls, model: Any) -> "Cost":
        """Measure a dense model, with or without LoRA, in 4 bits or more."""
        import torch

        config = model.config.get_text_config()
        output = model.get_output_embeddings()
        linear = {
            name: module.in_features * module.out_features
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not output
        }
        lora = sum(size for name, size in linear.items() if compat.is_lora(name))
        attention = config.num_hidden_layers * config.num_attention_heads * head_width(config)
        return cls(sum(linear.values()) - lora, output.in_features * output.out_features, lora, attention)

    def training(self, lengths: list[int], loss_tokens: int) -> float:
        """Count a forward and backward pass over rows of these lengths, of which the LoRA alone is trained.

        Frozen weights take part in the forward pass and in the gradient of their input, the LoRA's in their
        own gradient besides; the output layer is needed where the loss is taken.
        """
        pairs = sum(length * (length + 1) / 2 for length in lengths)
        return (
            4 * self.layers * sum(lengths)
            + 6 * self.lora * sum(lengths)
            + 4 * self.head * loss_tokens
            + 12 * self.attention * pairs
        )

    def generating(self, prompt: int, texts: list[int]) -> float:
        """Count reading a prompt of `prompt` tokens once and generating texts of these lengths after it."""
        flops = 2 * (self.layers + self.lora) * prompt + 4 * self.attention * prompt * (prompt + 1) / 2
        for length in texts:
            pairs = prompt * length + length * (length + 1) / 2
            flops += 2 * (self.layers + self.lora + self.head) * length + 4 * self.attention * pairs
        return flops
