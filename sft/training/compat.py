"""What training uses of other packages beyond their public interfaces, in one place.

tests/training/test_compat.py touches each, and says what to look at when a new version has moved it.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


MLFLOW_QUEUE = "mlflow.utils.async_logging.async_logging_queue"  # a module, and its logger
RANDOM_STATE = "rng_state.pth"  # in a trainer's checkpoint

# By these accelerate takes a process for one of several, whose batches it divides and whose model it wraps.
DISTRIBUTED = (
    "LOCAL_RANK",
    "WORLD_SIZE",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
)


@contextmanager
def as_one_process() -> Iterator[None]:
    """Have the trainer take itself for the only one inside: the ranks' work is divided and added up by us."""
    there = {name: os.environ.pop(name) for name in DISTRIBUTED if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(there)


def use_one_gpu(config: Any) -> None:
    """Have a TrainingArguments count one GPU at most: the trainer multiplies the batch by their number."""
    assert config.device is not None  # asking for it counts them
    config._n_gpu = min(config.n_gpu, 1)


def with_checkpoints(trainer: Any, save: "Callable[[Any], None]", load: "Callable[[Any, Path], None]") -> Any:
    """Return the trainer class with `save` and `load` of the model in place of its own.

    Its own also writes the tokenizer, a model card and pickled arguments, and not in one piece.
    """

    class WithCheckpoints(trainer):
        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            save(self)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            load(self, Path(resume_from_checkpoint))

    return WithCheckpoints


def save_state(trainer: Any, folder: Path) -> None:
    """Write all of a trainer's state but the model, as it reads it again itself, without unpickling."""
    trainer._save_optimizer_and_scheduler(str(folder))
    trainer._save_scaler(str(folder))
    trainer._save_rng_state(str(folder))
    trainer.state.save_to_json(str(folder / "trainer_state.json"))


def random_state(trainer: Any) -> bytes:
    """Return the state of all random numbers, as `save_state` writes it and the trainer reads it again."""
    with tempfile.TemporaryDirectory() as folder:
        trainer._save_rng_state(folder)
        return (Path(folder) / RANDOM_STATE).read_bytes()


def without_input_casting(model: Any) -> AbstractContextManager[None]:
    """Keep PEFT from making a LoRA's inputs float32, which under autocast become 16-bit again at once."""
    from peft.helpers import disable_input_dtype_casting

    return disable_input_dtype_casting(model)


def is_plain_lora(layer: "torch.nn.Module") -> bool:
    """Tell whether a module is PEFT's LoRA on a plain linear layer, of no variant and without dropout."""
    import torch
    from peft.tuners.lora import Linear

    return (
        type(layer) is Linear
        and type(layer.base_layer) is torch.nn.Linear
        and not layer.lora_variant
        and all(isinstance(dropout, torch.nn.Identity) for dropout in layer.lora_dropout.values())
    )


def active_lora(layer: Any) -> "tuple[torch.Tensor, torch.Tensor, float] | None":
    """Return A, B and the scale of a plain LoRA layer's adapter, None unless exactly one is to be added."""
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return None
    (name,) = layer.active_adapters
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def zero(tensors: "list[torch.Tensor]") -> None:
    """Set all tensors to 0 in one launch."""
    import torch

    torch._foreach_zero_(tensors)


def add(totals: "list[torch.Tensor]", terms: "list[torch.Tensor]") -> None:
    """Add each of `terms` to its place in `totals`, in one launch."""
    import torch

    torch._foreach_add_(totals, terms)


def copy(targets: "list[torch.Tensor]", sources: "list[torch.Tensor]") -> None:
    """Copy each of `sources` into its place in `targets`, in one launch."""
    import torch

    torch._foreach_copy_(targets, sources)


def leave_new_memory_as_it_is() -> None:
    """Keep PyTorch, told to be deterministic, from filling memory that nobody has written yet."""
    import torch

    # It is for finding bugs, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def set_unsloth_varlen(varlen: "Callable[..., torch.Tensor]") -> None:
    """Have Unsloth attend over packed rows by `varlen` in place of PyTorch's varlen_attn."""
    from unsloth.utils import attention_dispatch

    attention_dispatch._TORCH_VARLEN_ATTN = varlen


def set_unsloth_checkpointing(model: Any, mode: str | bool) -> None:
    """Tell Unsloth's trainer which gradient checkpointing it goes back to after a validation."""
    model._unsloth_gradient_checkpointing = mode


@contextmanager
def mlflow_errors(tell: "Callable[[str], None]") -> Iterator[None]:
    """Have MLflow tell what keeps it from sending, in place of a line in the log for every try.

    It sends from a thread of its own, and raises nothing.
    """

    class Told(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.levelno < logging.ERROR:
                return True
            tell(record.getMessage())
            return False

    logger, told = logging.getLogger(MLFLOW_QUEUE), Told()
    logger.addFilter(told)
    try:
        yield
    finally:
        logger.removeFilter(told)
