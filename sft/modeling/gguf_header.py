"""The header of a GGUF file, walked through before anything else reads it.

gguf's reader believes what a header says: of an array that claims 2^60 elements it makes one Python object
each until the memory is gone. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from pathlib import Path

from sft.core.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes by type
MOST_ELEMENTS = 2_000_000  # of all arrays: the largest vocabularies, of 262,000 tokens, have 1.4 million
MOST_ENTRIES = 100_000  # values, or tensors
MOST_DIMENSIONS = 4


class _Damaged(Exception):
    """The header is not one."""


def check(path: Path, advice: str = "Get it again, or use another model.") -> None:
    """Raise UserError, which ends with `advice`, where the header claims more than the file or a model has.

    It takes no memory to speak of, and a second at most (0.04 s for the default's).
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data).header()
    except (_Damaged, struct.error, OSError, ValueError) as error:  # an empty file cannot be mapped
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path.name}: not a GGUF file that can be read: {reason}. {advice}") from error


class _Walk:
    """Reads one value after another, none of them beyond the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place, self.elements = data, 0, 0

    def header(self) -> None:
        self._skip(len(MAGIC))
        if self.data[: len(MAGIC)] != MAGIC:
            raise _Damaged(f"it does not begin with {MAGIC.decode()}")
        version = self._number("<I")
        if version not in VERSIONS:
            raise _Damaged(f"its version is {version}, and {' and '.join(map(str, VERSIONS))} are known")
        tensors, pairs = self._number("<Q"), self._number("<Q")
        if max(tensors, pairs) > MOST_ENTRIES:
            raise _Damaged(f"it claims {tensors:,} tensors and {pairs:,} values")
        for _ in range(pairs):
            self._string()
            self._value(self._number("<I"))
        for _ in range(tensors):
            self._string()
            dimensions = self._number("<I")
            if dimensions > MOST_DIMENSIONS:
                raise _Damaged(f"a tensor has {dimensions:,} dimensions")
            self._skip(8 * dimensions + 12)

    def _value(self, kind: int) -> None:
        if kind == STRING:
            self._string()
        elif kind == ARRAY:
            of, count = self._number("<I"), self._number("<Q")
            self.elements += count
            if self.elements > MOST_ELEMENTS:
                raise _Damaged(f"its arrays claim {self.elements:,} elements")
            if of == STRING:
                for _ in range(count):
                    self._string()
            else:
                self._skip(self._width(of) * count)
        else:
            self._skip(self._width(kind))

    def _width(self, kind: int) -> int:
        if kind not in WIDTHS:
            raise _Damaged(f"a value has the type {kind}")
        return WIDTHS[kind]

    def _string(self) -> None:
        self._skip(self._number("<Q"))

    def _number(self, form: str) -> int:
        place = self.place
        self._skip(struct.calcsize(form))
        return struct.unpack_from(form, self.data, place)[0]

    def _skip(self, count: int) -> None:
        if count > len(self.data) - self.place:
            raise _Damaged(f"at byte {self.place:,} it claims {count:,} more, and the file ends")
        self.place += count
