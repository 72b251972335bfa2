"""The header of a GGUF file that was written here: what it says of itself, and its tensors' types.

gguf's own reader makes objects of every token and merge of the vocabulary: 1.8 s for the default's.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

STRING, ARRAY = 8, 9
FORMS = {**dict(enumerate("BbHhIif?")), 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class Tensor:
    """A tensor's type as gguf names it (Q4_K), and its numbers of elements and bytes."""

    kind: str
    elements: int
    bytes: int


@dataclass(frozen=True)
class Header:
    """A file's metadata, without arrays, and its tensors."""

    metadata: dict[str, Any]
    tensors: list[Tensor]


def read(path: Path) -> Header:
    """Read the header of a GGUF file of version 3."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Walk(data).header()


class _Walk:
    """Reads one value after another."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def header(self) -> Header:
        magic, version, tensors, pairs = self._take("4sIQQ")
        assert (magic, version) == (b"GGUF", 3)
        found = {self._string(): self._value(*self._take("I")) for _ in range(pairs)}
        return Header(
            {name: value for name, value in found.items() if value is not None},
            [self._tensor() for _ in range(tensors)],
        )

    def _tensor(self) -> Tensor:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        self._string()
        (dimensions,) = self._take("I")
        elements = prod(self._take(f"{dimensions}Q"))
        kind = GGMLQuantizationType(self._take("IQ")[0])
        block, size = GGML_QUANT_SIZES[kind]
        return Tensor(kind.name, elements, elements // block * size)

    def _value(self, kind: int) -> Any:
        """Return a value, None in place of an array."""
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._take(FORMS[kind])[0]
        of, count = self._take("IQ")
        if of == STRING:
            for _ in range(count):
                self._skip_string()
        else:
            self.place += struct.calcsize(FORMS[of]) * count
        return None

    def _string(self) -> str:
        begin, end = self._skip_string()
        return self.data[begin:end].decode()

    def _skip_string(self) -> tuple[int, int]:
        """Go on behind a string; return where it begins and ends."""
        (length,) = self._take("Q")
        begin, self.place = self.place, self.place + length
        return begin, self.place

    def _take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return found
