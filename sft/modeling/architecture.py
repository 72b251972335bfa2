"""What a model's configuration says of its attention heads, and of its output layer."""

from typing import Any

SCALED = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "output_multiplier",
    "lm_head_multiplier",
)


def head_width(config: Any) -> int:
    """Return the width of one attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def scaled_logits(config: Any) -> str | None:
    """Name what makes the logits more than the output layer's product with the last hidden state, if any."""
    return next((name for name in SCALED if getattr(config, name, None) not in (None, 1, 1.0)), None)
