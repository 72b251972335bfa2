"""Messages of many conversations as flat parallel arrays: what the shapes of raw rows are turned into."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import UserError

ROLE_KEYS = ("from", "role")
CONTENT_KEYS = ("value", "content", "text")
CALL_KEYS = ("tool_calls", "function_call")
_TEXT_PARTS = ["text", "input_text", "output_text"]


@dataclass
class MessageColumns:
    """Parallel arrays over messages; `row`, ascending, is the position of the message's conversation."""

    row: np.ndarray
    role: pa.Array  # string, as in the source
    content: pa.Array  # string; null where there is none
    calls: np.ndarray  # bool: it calls tools
    not_text: np.ndarray  # bool: its content is something else than text

    def take(self, where: np.ndarray) -> "MessageColumns":
        """Return the messages at these positions, or under this mask."""
        positions = np.flatnonzero(where) if where.dtype == bool else where
        arrow = pa.array(positions)
        return MessageColumns(
            self.row[positions],
            self.role.take(arrow),
            self.content.take(arrow),
            self.calls[positions],
            self.not_text[positions],
        )


def from_column(column: pa.Array, role: str, where: str) -> MessageColumns:
    """Read a column that holds conversations, or else one text a row, whose role is then `role`."""
    if is_list(column.type):
        return from_lists(column, where)
    content, not_text = text(column)
    rows = len(column)
    return MessageColumns(np.arange(rows), pa.repeat(role, rows), content, np.zeros(rows, bool), not_text)


def from_lists(column: pa.Array, where: str) -> MessageColumns:
    """Read a column of lists of messages; raises UserError, naming the column by `where`, if it is none."""
    messages = pc.list_flatten(column)
    fields = [field.name for field in messages.type] if pa.types.is_struct(messages.type) else []
    role_keys = [key for key in ROLE_KEYS if key in fields]
    content_keys = [key for key in CONTENT_KEYS if key in fields]
    if len(messages) and not (role_keys and content_keys):
        raise UserError(
            f"{where} holds {messages.type}, not messages. A message has from and value, or role and content."
        )
    roles = [text(pc.struct_field(messages, key))[0] for key in role_keys]
    contents = [text(pc.struct_field(messages, key)) for key in content_keys]
    calls = np.zeros(len(messages), bool)
    for key in CALL_KEYS:
        if key in fields:
            calls |= _is_given(pc.struct_field(messages, key))
    nothing = pa.nulls(len(messages), pa.string())
    return MessageColumns(
        np.repeat(np.arange(len(column)), _lengths(column)),
        pc.coalesce(*roles, nothing),
        pc.coalesce(*(content for content, _ in contents), nothing),
        calls,
        np.logical_or.reduce([not_text for _, not_text in contents]) if contents else calls,
    )


def joined(parts: list[MessageColumns]) -> MessageColumns:
    """Put the messages that each part has for a row behind one another."""
    if len(parts) == 1:
        return parts[0]
    row = np.concatenate([part.row for part in parts])
    together = MessageColumns(
        row,
        pa.concat_arrays([part.role for part in parts]),
        pa.concat_arrays([part.content for part in parts]),
        np.concatenate([part.calls for part in parts]),
        np.concatenate([part.not_text for part in parts]),
    )
    return together.take(np.argsort(row, kind="stable"))


def text(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return a column's texts, null where there is none, and a mask of the values that are no text.

    Lists are taken for the parts of a content and joined, if all of them are texts.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if is_list(kind):
        return _joined_parts(column)
    if is_text(kind) or pa.types.is_null(kind):
        return column.cast(pa.string()), np.zeros(len(column), bool)
    return pa.nulls(len(column), pa.string()), _mask(pc.is_valid(column))


def blank(content: pa.Array) -> np.ndarray:
    """Return a mask of the texts that are missing, empty or only white space."""
    empty = pc.or_(pc.equal(pc.binary_length(content), 0), pc.utf8_is_space(content))
    return _mask(pc.fill_null(empty, True))


def is_list(kind: pa.DataType) -> bool:
    """Tell whether the type is any of Arrow's list types."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether the type is any of Arrow's string types."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def list_array(lengths: np.ndarray, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Build lists of these lengths from consecutive values."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)


def _joined_parts(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    parts = pc.list_flatten(column)
    if pa.types.is_struct(parts.type) and {"type", "text"} <= {field.name for field in parts.type}:
        kind, words = pc.struct_field(parts, "type"), pc.struct_field(parts, "text")
        other = ~_mask(pc.is_in(text(kind)[0], value_set=pa.array(_TEXT_PARTS)))
    else:
        words, other = parts, np.zeros(len(parts), bool)
    words, not_text = text(words) if not is_list(words.type) else (pa.nulls(len(parts), pa.string()), ~other)
    lengths = _lengths(column)
    whole = pc.binary_join(list_array(lengths, words, pa.list_(pa.string())), "")
    missing = pa.scalar(None, pa.string())
    whole = pc.if_else(pc.is_valid(column), whole, missing)
    faulty = np.zeros(len(column), bool)
    faulty[np.repeat(np.arange(len(column)), lengths)[other | not_text]] = True
    return pc.if_else(pa.array(faulty), missing, whole), faulty


def _is_given(column: pa.Array) -> np.ndarray:
    if is_list(column.type):
        return _lengths(column) > 0
    if pa.types.is_boolean(column.type):
        return _mask(pc.fill_null(column, False))
    if is_text(column.type):
        nothing = pa.array(["", "[]", "null"], column.type)
        return _mask(pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=nothing))))
    return _mask(pc.is_valid(column))


def _lengths(column: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)


def _mask(column: pa.Array) -> np.ndarray:
    return column.to_numpy(zero_copy_only=False).astype(bool)
