"""Where training's model comes from: one module an engine, and the table that finds it by its name.

What follows (TRL's SFTTrainer, the adapter's format, metrics and log) is the same for every engine. A new
one is a module that offers what `Engine` lists, a row of ENGINES, and its name in `train.engine`.
"""

import os
from typing import TYPE_CHECKING, Any, Protocol

from sft.modeling.loading import ModelParams, Resolved
from sft.training.engines import trl, unsloth
from sft.training.lora import LoraParams

if TYPE_CHECKING:
    from sft.modeling.packing import Packed


class Engine(Protocol):
    """What an engine's module offers. It imports nothing heavy before `prepare` is called."""

    can_capture_graphs: bool  # whether its forward and backward pass never make the host wait for the GPU
    trains_on_several_devices: bool

    def prepare(self) -> None:
        """Do what must come before torch, transformers, peft and trl are imported.

        Raises UserError where the engine does not run on this machine.
        """

    def load(self, base: Resolved, params: ModelParams, lora: LoraParams, max_length: int, seed: int) -> Any:
        """Load the resolved base model with a fresh LoRA on it, as a PEFT model; the seed makes the LoRA.

        Raises UserError where the machine cannot, or the model lacks a layer that the LoRA adapts.
        """

    def checkpointing(self, model: Any, on: bool) -> None:
        """Turn gradient checkpointing of a model that it loaded on or off."""

    def inputs(self, packed: "Packed") -> dict[str, Any]:
        """Return the arguments of its decoder's forward for packed rows."""


ENGINES: dict[str, Engine] = {"trl": trl, "unsloth": unsloth}


def prepare(name: str) -> Engine:
    """Make the engine `name` ready and return it: before torch, transformers, peft and trl are imported.

    Raises UserError where the engine does not run on this machine.
    """
    # Packed sequences all differ in length; segments that grow keep the GPU's memory from fragmenting.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    # Without it PyTorch refuses matrix products on a GPU where it is told to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    engine = ENGINES[name]
    engine.prepare()
    return engine
