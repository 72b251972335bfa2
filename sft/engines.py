"""Where training's model comes from: one loader an engine, all giving a PEFT model and its tokenizer.

What follows (TRL's SFTTrainer, the adapter's format, metrics and log) is the same for every engine.
"""

from typing import Any, Literal

from sft.lora import LoraParams
from sft.models import ModelParams, Resolved

Engine = Literal["trl", "unsloth"]


def prepare(engine: Engine) -> None:
    """Import what the engine wants imported before anything else: Unsloth patches transformers and trl."""
    if engine == "unsloth":
        from sft import engine_unsloth

        engine_unsloth.prepare()


def load_trainable(
    engine: Engine,
    base: Resolved,
    params: ModelParams,
    lora: LoraParams,
    max_length: int,
    checkpointing: bool,
    seed: int,
) -> tuple[Any, Any]:
    """Load the resolved base model with a fresh LoRA on it; return (model, tokenizer)."""
    if engine == "unsloth":
        from sft import engine_unsloth

        return engine_unsloth.load(base, params, lora, max_length, checkpointing, seed)
    from sft.lora import add_lora
    from sft.models import load_model, load_tokenizer

    tokenizer = load_tokenizer(base)
    model = load_model(base, params.dtype, load_in_4bit=params.load_in_4bit)
    return add_lora(model, lora, seed), tokenizer
