"""Where training's model comes from: one loader an engine, all giving a PEFT model and its tokenizer.

What follows (TRL's SFTTrainer, the adapter's format, metrics and log) is the same for every engine.
"""

import logging
import os
from typing import Any, Literal

from sft.modeling.loading import ModelParams, Resolved
from sft.training.lora import LoraParams

Engine = Literal["trl", "unsloth"]


def prepare(engine: Engine) -> None:
    """Do what must come before anything else: Unsloth patches transformers and trl when it is imported."""
    # Packed sequences all differ in length; segments that grow keep the GPU's memory from fragmenting.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    # Without it PyTorch refuses matrix products on a GPU where it is told to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if engine == "unsloth":
        from sft.training import engine_unsloth

        engine_unsloth.prepare()


def load_trainable(
    engine: Engine,
    base: Resolved,
    params: ModelParams,
    lora: LoraParams,
    max_length: int,
    seed: int,
) -> tuple[Any, Any]:
    """Load the resolved base model with a fresh LoRA on it; return (model, tokenizer)."""
    if engine == "unsloth":
        from sft.training import engine_unsloth

        return engine_unsloth.load(base, params, lora, max_length, seed)
    from sft.modeling import packed_attention
    from sft.modeling.loading import load_model, load_tokenizer
    from sft.training import fused_lora
    from sft.training.lora import add_lora

    tokenizer = load_tokenizer(base)
    packed_attention.register()
    model = load_model(
        base, params.dtype, load_in_4bit=params.load_in_4bit, attention=packed_attention.PACKED
    )
    add_kernels(model)
    model = add_lora(model, lora, seed)
    fused_lora.fuse(model)
    return model, tokenizer


def add_kernels(model: Any) -> None:
    """Replace the model's norms, rotary embedding and activation by Liger's kernels, on an NVIDIA GPU.

    They compute the same in one pass over the memory. Liger has some architectures; others stay as they are.
    """
    import torch
    from transformers.integrations.liger import apply_liger_kernel
    from transformers.utils import is_liger_kernel_available

    logging.getLogger("liger_kernel").setLevel(logging.ERROR)  # tells of backends that are not NVIDIA's
    if torch.cuda.is_available() and torch.version.hip is None and is_liger_kernel_available():
        apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})


def set_checkpointing(engine: Engine, model: Any, on: bool) -> None:
    """Turn gradient checkpointing of a PEFT model on or off."""
    if engine == "unsloth":
        from sft.training import engine_unsloth

        engine_unsloth.set_checkpointing(model, on)
    elif on:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
