"""Columns that no conversation is made from: kept beside the rows, or dropped and counted."""

import numpy as np
import pyarrow as pa

from sft.core.row_schema import SCHEMA
from sft.data import arrays
from sft.data.columns import LABELS, MEDIA, READ

_OF_CONVERSATIONS = READ - {*LABELS}


def dropped(
    raw: pa.Table, used: dict[str, str], rejected: str | None, mixed: dict[str, dict[int, str]]
) -> dict[str, int]:
    """Count by column the rows that have a value which is neither used nor kept.

    Also those of a column that in other files is part of the conversation: here it is kept, but not read.
    """
    counts = {name: len(values) for name, values in mixed.items() if name not in used.values()}
    for field in raw.schema:
        if field.name in used.values():
            continue
        what = field.name
        if is_kept(field) and field.name != rejected:
            if field.name.lower() not in _OF_CONVERSATIONS:
                continue
            what = f"{field.name} (kept, not read)"
        rows = sum(int(arrays.has_value(chunk).sum()) for chunk in raw[field.name].chunks)
        counts[what] = counts.get(what, 0) + rows
    return counts


def with_kept(table: pa.Table, raw: pa.Table, used: set[str], good: np.ndarray) -> pa.Table:
    """Add the scalar columns that the conversation is not made from, renamed where a name is taken.

    Of lists of texts the `choices` that an answer is chosen from are kept, for multiple choice.
    """
    extras = [field.name for field in raw.schema if field.name not in used and is_kept(field)]
    rows = raw.select(extras)
    if not good.all():
        rows = rows.filter(pa.array(good))
    for name, column in zip(extras, rows.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        kind = pa.string() if arrays.is_text(kind) else kind
        kind = kind if _is_scalar(kind) else pa.list_(pa.string())
        if name in SCHEMA.names:
            name = "origin" if name == "source" else f"origin_{name}"
        while name in table.column_names:
            name += "_"
        table = table.append_column(name, column.cast(kind))
    return table


def is_kept(field: pa.Field) -> bool:
    """Tell whether a column that is not used stays beside the rows."""
    if field.name == "choices" and arrays.is_list(field.type):
        return arrays.is_text(field.type.value_type)
    return _is_scalar(field.type) and field.name.lower() not in ("rejected", *MEDIA)


def _is_scalar(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    return arrays.is_text(kind) or pa.types.is_primitive(kind) or pa.types.is_decimal(kind)
