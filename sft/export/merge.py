"""The base model's weights with the adapter merged into them, one after another, in float32.

PEFT merges, layer by layer. The base's weights stay in their files, which transformers maps into memory in
the type that they are stored in. So even a model of 3 billion weights takes little more memory than what is
written at once.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.core.files import read_json
from sft.modeling import adapter, weights
from sft.modeling.compat import is_lora
from sft.modeling.loading import Resolved, readable
from sft.modeling.quiet import quiet
from sft.modeling.weights import LOCAL, stored_dtype

# Weights that are all of one of these types are mapped as they are; any others are read as float32.
MAPPED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
BASE_LAYER = ".base_layer."


@dataclass(frozen=True)
class _Place:
    """Where a weight is: its module, its name there, and the LoRA layer around it, if there is one."""

    module: Any
    leaf: str
    layer: Any = None


class Merged:
    """A base model with an adapter on it, whose merged weights can be had by name.

    `shapes` has every weight once, by the name that transformers saves it under: tied ones by the first name.
    """

    def __init__(self, base: Resolved, folder: Path | str) -> None:
        """Load both; raise UserError where weights are damaged or in 4 bits, or the two do not fit."""
        self.base = base
        self.model = _mapped(base)
        before = {name: tuple(tensor.shape) for name, tensor in _tensors(self.model)}
        with quiet(), _fitting(base, folder):
            adapter.attach(self.model, folder)
        self._places: dict[str, _Place] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, tensor in _tensors(self.model):
            if not is_lora(name):
                saved = name.replace(BASE_LAYER, ".")
                self._places[saved] = _place(self.model, name)
                self.shapes[saved] = tuple(tensor.shape)
        if self.shapes != before:
            raise UserError(
                f"{folder}: the adapter has weights beside its LoRA matrices, and such cannot be exported. "
                "Train it without them, or merge it by PEFT's merge_and_unload."
            )

    def weights(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield these weights as float32 tensors. Each can be had once: it is not kept.

        Raises UserError for one that holds numbers that are not finite.
        """
        import torch

        for name in names:
            place = self._places.pop(name)
            tensor = getattr(place.module, place.leaf).detach()
            if place.layer is not None:
                place.module.weight.data = tensor.to(torch.float32)
                place.layer.merge(safe_merge=True)  # into a copy: what is mapped stays as it is
                tensor = place.module.weight.detach()
                place.module.weight.data = torch.empty(0)
            tensor = tensor.to(torch.float32)
            if not all(bound.isfinite() for bound in tensor.aminmax()):
                raise UserError(
                    f"{self.base.reference}: damaged, or its adapter is: {name} holds numbers that are not "
                    "finite. Fetch or train it anew."
                )
            yield name, tensor


def check_base(base: Resolved) -> None:
    """Raise UserError where the base's weights are stored in a form that nothing can be merged into."""
    weights.check(base.path, base.reference)
    settings = read_json(base.path / "config.json").get("quantization_config")
    if settings:
        method = settings.get("quant_method", "some quantization")
        raise UserError(
            f"{base.reference}: its weights are stored quantized ({method}), and an adapter is merged into "
            "weights of 16 or 32 bits. Train and export on the model that this one was made of, with "
            "model.load_in_4bit if need be."
        )


def count(folder: Path) -> int:
    """Return how many weights the safetensors in a folder have, by their headers."""
    from math import prod

    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as file:
            total += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total


def _mapped(base: Resolved) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    check_base(base)
    dtype = getattr(torch, MAPPED.get(stored_dtype(base.path), "float32"))
    with quiet(), readable(base, "model"):
        return AutoModelForCausalLM.from_pretrained(base.path, dtype=dtype, use_safetensors=True, **LOCAL)


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a model's state consists of, tied weights once."""
    seen = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def _place(model: Any, name: str) -> _Place:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    if leaf == "weight" and f".{owner}.".endswith(BASE_LAYER):
        return _Place(module, leaf, model.get_submodule(owner.rpartition(".")[0]))
    return _Place(module, leaf)


@contextmanager
def _fitting(base: Resolved, folder: Path | str) -> Iterator[None]:
    """Raise UserError in place of what PEFT raises where an adapter and a model do not fit."""
    try:
        yield
    except (ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{folder}: the adapter does not fit {base.reference}: {reason}") from error
