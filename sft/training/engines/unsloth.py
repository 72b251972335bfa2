"""Training's model by Unsloth: its kernels and its gradient checkpointing, on an NVIDIA GPU."""

from typing import TYPE_CHECKING, Any

from sft.core.errors import ParamError
from sft.modeling import weights
from sft.modeling.gpu_memory import fits_the_gpu
from sft.modeling.loading import ModelParams, Resolved
from sft.training import compat
from sft.training.lora import LoraParams, check_targets

if TYPE_CHECKING:
    from sft.modeling.packing import Packed

can_capture_graphs = False  # its forward takes the rows' lengths to the host
trains_on_several_devices = (
    False  # it patches the trainer for torchrun in ways that nobody has tried with ours
)


def prepare() -> None:
    """Import Unsloth, so that it patches what is imported after it.

    Raises UserError where there is no GPU (importing Unsloth raises then) or no Unsloth.
    """
    import torch

    if not torch.cuda.is_available():
        raise ParamError("train.engine: unsloth needs an NVIDIA GPU. Use trl on this machine.")
    try:
        import unsloth  # noqa: F401
    except ImportError as error:
        raise ParamError(
            f"train.engine: unsloth cannot be imported ({error}). "
            "Install it with pip install -r requirements.txt, or use trl."
        ) from error
    from sft.modeling import packed_attention

    # Unsloth packs rows by the same varlen attention, but not where torch groups heads unasked.
    compat.set_unsloth_varlen(packed_attention.varlen)


def load(base: Resolved, params: ModelParams, lora: LoraParams, max_length: int, seed: int) -> Any:
    """Load the base model with a fresh LoRA on it, made by the seed.

    Raises UserError where there is no GPU or no Unsloth, and for a layer that the model has not.
    """
    prepare()
    import torch
    from unsloth import FastLanguageModel

    weights.check(base.path, base.reference)
    with fits_the_gpu(base.reference, params.load_in_4bit):
        model, _ = FastLanguageModel.from_pretrained(
            model_name=str(base.path),
            max_seq_length=max_length,
            dtype=getattr(torch, params.dtype),
            load_in_4bit=params.load_in_4bit,
            # Without it a 4-bit load is sent to another repository, and the pinned revision is dropped.
            use_exact_model_name=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    check_targets(model, lora.target_modules)
    return FastLanguageModel.get_peft_model(
        model,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        bias="none",
        use_gradient_checkpointing="unsloth",  # made ready; `checkpointing` says whether it is on
        random_state=seed,
    )


def checkpointing(model: Any, on: bool) -> None:
    """Turn Unsloth's gradient checkpointing on or off."""
    from unsloth import FastLanguageModel

    mode = "unsloth" if on else False
    compat.set_unsloth_checkpointing(model, mode)
    FastLanguageModel.for_training(model, use_gradient_checkpointing=mode)


def inputs(packed: "Packed") -> dict[str, Any]:
    """Return the arguments of an Unsloth decoder's forward: the rows' lengths by its own name among them."""
    import torch

    return packed.inputs() | {"packed_seq_lengths": torch.tensor(packed.lengths, dtype=torch.int32)}
