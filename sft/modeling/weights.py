"""The files of a model's weights: safetensors only, whose headers can be believed.

A pickle (pytorch_model.bin) can run any code as it is loaded. Of safetensors the library itself refuses a
header that is too long, no JSON, or whose tensors overlap or lie outside of the file.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from sft.core.errors import UserError

# How whatever belongs to a model is read: from this machine, and without running code that comes with it.
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def stored_dtype(folder: Path) -> str:
    """Name the dtypes of the safetensors in a folder, such as BF16; the most frequent comes first.

    Damaged weights are for what loads them to complain of.
    """
    from safetensors import SafetensorError, safe_open

    found: Counter[str] = Counter()
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "np") as file:
                found.update(file.get_slice(name).get_dtype() for name in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return "unreadable"
    return ", ".join(dtype for dtype, _ in found.most_common()) or "no safetensors"


def check(folder: Path, name: str) -> None:
    """Raise UserError, naming the model `name`, unless the weights in its folder are sound safetensors."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
        raise UserError(
            f"{name}: holds no weights in safetensors format. "
            + (
                f"{pickled[0]} is a pickle, which could run any code as it is loaded: if you trust it, "
                "convert it in a program of your own with model.save_pretrained."
                if pickled
                else "Put model.safetensors there, as transformers saves it."
            )
        )
    for path in paths:
        check_file(path)


def check_file(path: Path) -> None:
    """Raise UserError for safetensors with a wrong header or without weights; only the header is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            if not list(file.keys()):
                raise ValueError("there are no weights in it")
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path}: not safetensors that can be read: {reason}. Get it again, or make it again."
        ) from error
