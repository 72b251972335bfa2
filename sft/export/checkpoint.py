"""Merged models in transformers' format: sharded safetensors with settings and tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.core.files import read_json, write_json
from sft.export.merge import Merged
from sft.modeling.loading import stop_token_ids

# Of float32: what is in memory at once beside the mapped files.
SHARD = "2GB"


def write(merged: Merged, tokenizer: Any, folders: Mapping[str, Path], for_gguf: bool = False) -> None:
    """Write a model folder for each dtype (float32, bfloat16, float16), merging once.

    `for_gguf` says that GGUF files will be made of them, by way of float16.
    Raises UserError where a weight does not fit float16, OSError where the disk is full.
    """
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    planned = {name: torch.empty(shape, device="meta") for name, shape in merged.shapes.items()}
    plan = split_torch_state_dict_into_shards(planned, max_shard_size=SHARD)
    for file, names in plan.filename_to_tensors.items():
        tensors = dict(merged.weights(names))
        if for_gguf or "float16" in folders:
            for name, tensor in tensors.items():
                check_float16(name, tensor)
        for dtype, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                save_file(_cast(tensors, dtype), folder / file, metadata={"format": "pt"})
            except SafetensorError as error:  # how safetensors reports a full disk
                raise OSError(str(error)) from error
        del tensors  # else two files' are in memory at once
    for dtype, folder in folders.items():
        if plan.is_sharded:
            size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
            index = {"metadata": {"total_size": size}, "weight_map": plan.tensor_to_filename}
            write_json(folder / "model.safetensors.index.json", index)
        _write_settings(merged, tokenizer, folder, dtype)


def check_float16(name: str, tensor: Any) -> None:
    """Raise UserError where the tensor has a value that float16 has no number for."""
    import torch

    largest = max(abs(bound.item()) for bound in tensor.aminmax())
    if largest > torch.finfo(torch.float16).max:
        raise UserError(
            f"{name} has a weight of {largest:.0f}, and float16, which a GGUF is made of, ends at 65504. "
            "Choose: make export FORMATS='float32 16bit'"
        )


def _cast(tensors: dict[str, Any], dtype: str) -> dict[str, Any]:
    import torch

    return {name: tensor.to(getattr(torch, dtype)).contiguous() for name, tensor in tensors.items()}


def _write_settings(merged: Merged, tokenizer: Any, folder: Path, dtype: str) -> None:
    """Write configuration and tokenizer; what stops an answer is what stops it in evaluation."""
    import torch
    from transformers import GenerationConfig

    model = merged.model
    stops = stop_token_ids(tokenizer, model)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = type(model.config).from_dict(model.config.to_dict())
    for name, value in special.items():
        setattr(config, name, value)
    config.name_or_path = merged.base.reference  # not this machine's folder
    config.architectures = [type(model).__name__]
    config.dtype = getattr(torch, dtype)
    config.save_pretrained(folder)
    generation = {**model.generation_config.to_dict(), **special}
    generation.pop("_from_model_config", None)
    GenerationConfig.from_dict(generation).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The name that transformers 4 knows it by, too.
    path = folder / "tokenizer_config.json"
    settings = read_json(path)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        write_json(path, {**settings, "tokenizer_class": "PreTrainedTokenizerFast"})
