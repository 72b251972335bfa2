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


def as_booleans(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column of labels by numbers or words that are all verdicts as booleans; None for another."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or is_text(kind)):
        return None
    column = column.cast(pa.string() if is_text(kind) else kind)
    says = {value: verdict(value) for value in column.unique().to_pylist() if value is not None}
    if not says or None in says.values():
        return None
    on = pa.array([value for value, is_on in says.items() if is_on], column.type)
    return pc.if_else(pc.is_valid(column), pc.is_in(column, value_set=on), pa.scalar(None, pa.bool_()))
