"""What says on or off, in whatever way a source writes it."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.data.arrays import is_text

_WORDS = {"false": 0, "no": 0, "off": 0, "true": 1, "yes": 1, "on": 1}
_VERDICTS = {"bad": 0, "undesirable": 0, "rejected": 0, "good": 1, "desirable": 1, "chosen": 1}


def flag(value: Any) -> int | None:
    """Return 1 for what says on, 0 for what says off, and None for anything else."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number in (0, 1) else None


def verdict(value: Any) -> int | None:
    """Return 1 for a label that says good or on, 0 for one that says bad or off, and None for others."""
    words = _VERDICTS if isinstance(value, str) else {}
    return words.get(str(value).strip().lower(), flag(value))


def may_tell(kind: pa.DataType) -> bool:
    """Tell whether a column of this type may hold verdicts by numbers or words."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or is_text(kind)


class Verdicts:
    """Tells whether all values of a column are verdicts, from one batch after another."""

    def __init__(self) -> None:
        self._seen, self._all = False, True

    def __bool__(self) -> bool:
        return self._seen and self._all

    def look(self, column: pa.ChunkedArray | pa.Array) -> None:
        """Look at a batch's values."""
        if not self._all:
            return
        says = _says(_plain(column)) if may_tell(column.type) else {}
        self._seen = self._seen or bool(says)
        self._all = None not in says.values() and (may_tell(column.type) or column.null_count == len(column))


def as_booleans(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of verdicts by numbers or words as booleans."""
    column = _plain(column)
    on = pa.array([value for value, is_on in _says(column).items() if is_on], column.type)
    return pc.if_else(pc.is_valid(column), pc.is_in(column, value_set=on), pa.scalar(None, pa.bool_()))


def _plain(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.string() if is_text(kind) else kind)


def _says(column: pa.ChunkedArray | pa.Array) -> dict[Any, int | None]:
    return {value: verdict(value) for value in column.unique().to_pylist() if value is not None}
