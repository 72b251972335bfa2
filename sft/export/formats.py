"""The formats that an adapter is exported to, and the disk space that they take."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sft.core.errors import UserError

Kind = Literal["safetensors", "gguf"]


@dataclass(frozen=True)
class Format:
    """A format by the name that `make export FORMATS=` knows it by.

    `most_bits` is what a weight takes at most: in 4 bits a matrix whose rows are no multiple of 256 falls
    back to another type of up to 8.5. `types` are the tensor types that a GGUF of this format should have.
    """

    name: str
    kind: Kind
    most_bits: float
    types: frozenset[str] = frozenset()


FLOAT32 = Format("float32", "safetensors", 32)
HALF = Format("16bit", "safetensors", 16)
F16 = Format("f16", "gguf", 16, frozenset({"F16", "F32"}))
Q8_0 = Format("q8_0", "gguf", 8.5, frozenset({"Q8_0", "F32"}))
Q4_K_M = Format("q4_k_m", "gguf", 8.5, frozenset({"Q4_K", "Q5_K", "Q6_K", "F32"}))
FORMATS = (FLOAT32, HALF, F16, Q8_0, Q4_K_M)
# Beside the weights: tokenizer and settings, in every folder and file.
REST = 16 << 20


def chosen(names: Sequence[str]) -> list[Format]:
    """Return the formats of these names, in the order of FORMATS; all where none is named.

    Raises UserError for a name that is none.
    """
    known = {made.name: made for made in FORMATS}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"FORMATS: {unknown[0]!r} is none. Choose from: {' '.join(known)}")
    return [made for made in FORMATS if not names or made.name in names]


def written(formats: Collection[Format]) -> list[Format]:
    """Return all formats that are written on the way: every GGUF is made of float32 by way of f16."""
    by_way = {FLOAT32, F16} if any(made.kind == "gguf" for made in formats) else set()
    return [made for made in FORMATS if made in formats or made in by_way]


def most_bytes(formats: Collection[Format], weights: int) -> int:
    """Return the disk space that an export of a model of so many weights takes at most, while it runs."""
    return sum(int(weights * made.most_bits / 8) + REST for made in written(formats))


def check_space(folder: Path, formats: Collection[Format], weights: int) -> None:
    """Raise UserError where the disk has no room for the export into `folder`."""
    needed = most_bytes(formats, weights)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed <= free:
        return
    passing = [made.name for made in written(formats) if made not in formats]
    said = f" ({' and '.join(passing)} among it while it runs)" if passing else ""
    advice = "Free some space, or choose fewer formats: make export FORMATS=16bit"
    if folder.exists():
        advice += f". {folder} stays until the new one is whole: delete it first if it is not needed"
    raise UserError(
        f"{folder}: exporting {weights:,} weights as {', '.join(made.name for made in formats)} takes up to "
        f"{_gib(needed)}{said}, and {_gib(free)} is free. {advice}."
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
