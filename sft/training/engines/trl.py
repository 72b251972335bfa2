"""Training's model by transformers and PEFT, on any machine, with Liger's kernels on an NVIDIA GPU."""

import logging
from typing import TYPE_CHECKING, Any

from sft.modeling.loading import ModelParams, Resolved
from sft.training.lora import LoraParams

if TYPE_CHECKING:
    from sft.modeling.packing import Packed

can_capture_graphs = True
trains_on_several_devices = True


def prepare() -> None:
    """Do nothing: this engine changes no other package."""


def load(base: Resolved, params: ModelParams, lora: LoraParams, max_length: int, seed: int) -> Any:
    """Load the base model with a fresh LoRA on it, made by the seed; `max_length` changes nothing here.

    Raises UserError for a type or quantization that the machine has not, and for a layer that the model
    has not.
    """
    from sft.modeling import packed_attention
    from sft.modeling.loading import load_model
    from sft.training import fused_lora
    from sft.training.lora import add_lora

    packed_attention.register()
    model = load_model(
        base, params.dtype, load_in_4bit=params.load_in_4bit, attention=packed_attention.PACKED
    )
    add_kernels(model)
    model = add_lora(model, lora, seed)
    fused_lora.fuse(model)
    return model


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


def checkpointing(model: Any, on: bool) -> None:
    """Turn transformers' gradient checkpointing of a PEFT model on or off."""
    if on:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()


def inputs(packed: "Packed") -> dict[str, Any]:
    """Return the arguments of a transformers decoder's forward, and those of our attention over rows."""
    return packed.inputs()
