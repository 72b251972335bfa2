"""Messages of many conversations as flat parallel arrays: what the shapes of raw rows are turned into."""

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import UserError
from sft.core.row_schema import MESSAGES
from sft.data.row_reasons import NUMBERS, RowReason
from sft.data.tool_calls import calls_json, converted

ROLE_KEYS = ("from", "role")
CONTENT_KEYS = ("value", "content", "text")
CALL_KEYS = ("tool_calls", "function_call")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
# OpenAI's fine-tuning format masks a message by weight 0, axolotl and others by a flag that is false.
WEIGHT_KEY = "weight"
TRAIN_KEYS = ("train", "training", "train_on_turn", "loss")
NAME_KEYS = ("tool_call_id", "name")
KEYS = (*ROLE_KEYS, *CONTENT_KEYS, *CALL_KEYS, *REASONING_KEYS, WEIGHT_KEY, *TRAIN_KEYS, *NAME_KEYS)
# What a part of a content may be called, and hold its text in.
_TEXT_PARTS = ["text", "input_text", "output_text"]
PART_KEYS = ("text", "value", "content")
_MEDIA = r"image|video|audio"

_FURTHER = {field.name: field.type for field in MESSAGES.value_type if field.name not in ("role", "content")}


@dataclass
class MessageColumns:
    """Parallel arrays over messages; `row`, ascending, is the position of the message's conversation.

    `further` has the other fields of `sft.core.row_schema.MESSAGES`; one that it lacks is null everywhere.
    `unused` counts the rows that have a value in fields of messages that nothing is made of.
    """

    row: np.ndarray
    role: pa.Array  # string, as in the source
    content: pa.Array  # string; null where there is none
    fault: np.ndarray  # int8: the number of a RowReason
    further: dict[str, pa.Array] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)

    def take(self, where: np.ndarray) -> "MessageColumns":
        """Return the messages at these positions, or under this mask."""
        positions = np.flatnonzero(where) if where.dtype == bool else where
        arrow = pa.array(positions)
        return MessageColumns(
            self.row[positions],
            self.role.take(arrow),
            self.content.take(arrow),
            self.fault[positions],
            {name: values.take(arrow) for name, values in self.further.items()},
            self.unused,
        )

    def of(self, name: str) -> pa.Array:
        """Return one of the further fields."""
        return self.further.get(name, pa.nulls(len(self.row), _FURTHER[name]))


def from_column(column: pa.Array, role: str, where: str) -> MessageColumns:
    """Read a column that holds conversations or single messages, or else one text a row, of this role."""
    if is_list(column.type):
        return from_lists(column, where)
    if pa.types.is_struct(column.type):
        lengths = np.asarray(pc.is_valid(column)).astype(np.int64)
        given = column.filter(pc.is_valid(column))
        return from_lists(list_array(lengths, given, pa.list_(column.type)), where)
    content, fault = text(column)
    rows = len(column)
    return MessageColumns(np.arange(rows), pa.repeat(role, rows), content, fault)


def from_lists(column: pa.Array, where: str) -> MessageColumns:
    """Read a column of lists of messages; raises UserError, naming the column by `where`, if it is none."""
    messages = pc.list_flatten(column)
    fields = [field.name for field in messages.type] if pa.types.is_struct(messages.type) else []
    role_keys = [key for key in ROLE_KEYS if key in fields]
    content_keys = [key for key in CONTENT_KEYS if key in fields]
    if len(messages) and not (role_keys and (content_keys or "tool_calls" in fields)):
        raise UserError(
            f"{where} holds {messages.type}, not messages. A message has from and value, or role and content."
        )
    given = {key: pc.struct_field(messages, key) for key in KEYS if key in fields}
    nothing = pa.nulls(len(messages), pa.string())
    contents = [text(given[key]) for key in content_keys]
    fault = np.zeros(len(messages), np.int8)
    for _, of_content in contents:
        fault = np.where(fault == 0, of_content, fault)
    further, unreadable = _further(given)
    fault[(fault == 0) & unreadable] = NUMBERS[RowReason.UNREADABLE_CALLS]
    row = np.repeat(np.arange(len(column)), _lengths(column))
    unused = {key: has_value(pc.struct_field(messages, key)) for key in fields if key not in KEYS}
    if WEIGHT_KEY in given and _is_flag(WEIGHT_KEY, given[WEIGHT_KEY].type):
        one = pc.is_in(given[WEIGHT_KEY].cast(pa.float64()), value_set=pa.array([0.0, 1.0, None]))
        unused[f"{WEIGHT_KEY} other than 0 and 1"] = ~_mask(one)
    return MessageColumns(
        row,
        pc.coalesce(*(text(given[key])[0] for key in role_keys), nothing),
        pc.coalesce(*(content for content, _ in contents), nothing),
        fault,
        {name: values for name, values in further.items() if values.null_count < len(values)},
        {key: len(np.unique(row[where])) for key, where in unused.items() if where.any()},
    )


def joined(parts: list[MessageColumns]) -> MessageColumns:
    """Put the messages that each part has for a row behind one another."""
    if len(parts) == 1:
        return parts[0]
    row = np.concatenate([part.row for part in parts])
    names = dict.fromkeys(name for part in parts for name in part.further)
    together = MessageColumns(
        row,
        pa.concat_arrays([part.role for part in parts]),
        pa.concat_arrays([part.content for part in parts]),
        np.concatenate([part.fault for part in parts]),
        {name: pa.concat_arrays([part.of(name) for part in parts]) for name in names},
        dict(sum((Counter(part.unused) for part in parts), Counter())),
    )
    return together.take(np.argsort(row, kind="stable"))


def text(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return a column's texts, null where there is none, and by number the fault of those that are no text.

    Lists are taken for the parts of a content and joined, if all of them are texts.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if is_list(kind):
        return _joined_parts(column)
    if is_text(kind) or pa.types.is_null(kind):
        return column.cast(pa.string()), np.zeros(len(column), np.int8)
    not_text = np.int8(NUMBERS[RowReason.CONTENT_IS_NOT_TEXT])
    return pa.nulls(len(column), pa.string()), _mask(pc.is_valid(column)) * not_text


def blank(content: pa.Array) -> np.ndarray:
    """Return a mask of the texts that are missing, empty or only white space."""
    empty = pc.or_(pc.equal(pc.binary_length(content), 0), pc.utf8_is_space(content))
    return _mask(pc.fill_null(empty, True))


def said(column: pa.Array) -> pa.Array:
    """Return a column's texts, null where they are blank or no text at all."""
    texts, _ = text(column)
    return pc.if_else(pa.array(blank(texts)), pa.scalar(None, pa.string()), texts)


def anywhere(texts: pa.Array, wanted: str) -> bool:
    """Tell whether a text of the array may hold `wanted`: quick, where looking at each text is slow."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return False
    ends = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset)
    return re.search(re.escape(wanted.encode()), memoryview(data)[ends[0] : ends[-1]]) is not None


def is_list(kind: pa.DataType) -> bool:
    """Tell whether the type is any of Arrow's list types."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether the type is any of Arrow's string types, perhaps behind a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def has_value(column: pa.Array) -> np.ndarray:
    """Return a mask of the rows in which a column holds something: not null, nor an empty text or list."""
    if is_list(column.type):
        return _lengths(column) > 0
    if is_text(column.type):
        return ~blank(column.cast(pa.string()))
    return _mask(pc.is_valid(column))


def list_array(lengths: np.ndarray, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Build lists of these lengths from consecutive values."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)


def _further(given: dict[str, pa.Array]) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Read what a message has beside its role and content; mark the messages with unreadable tool calls."""
    further: dict[str, pa.Array] = {}
    if reasoning := [said(given[key]) for key in REASONING_KEYS if key in given]:
        further["reasoning"] = pc.coalesce(*reasoning)
    for key in NAME_KEYS:
        if key in given:
            further[key] = said(given[key])
    further |= _trained(given)
    unreadable = np.zeros(len(next(iter(given.values()), [])), bool)
    calls = []
    for key in CALL_KEYS:
        if key in given:
            texts, faulty = converted(given[key], calls_json)
            calls.append(texts)
            unreadable |= faulty
    if calls:
        further["tool_calls"] = pc.coalesce(*calls)
    return further, unreadable


def _trained(given: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Return `trained`: false for the messages that the source masks, null for the others."""
    masked = []
    for key in (WEIGHT_KEY, *TRAIN_KEYS):
        if key in given and _is_flag(key, given[key].type):
            masked.append(_mask(pc.fill_null(pc.equal(given[key].cast(pa.float64()), 0), False)))
    if not masked:
        return {}
    out = np.logical_or.reduce(masked)
    return {"trained": pa.array(np.zeros(len(out), bool), pa.bool_(), mask=~out)}


def _is_flag(key: str, kind: pa.DataType) -> bool:
    whole = pa.types.is_boolean(kind) or pa.types.is_integer(kind)
    return whole or (key == WEIGHT_KEY and pa.types.is_floating(kind))


def _joined_parts(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    parts = pc.list_flatten(column)
    fault = np.zeros(len(parts), np.int8)
    words = parts
    if pa.types.is_struct(parts.type):
        names = [field.name for field in parts.type]
        nothing = pa.nulls(len(parts), pa.string())
        texts = [text(pc.struct_field(parts, key))[0] for key in PART_KEYS if key in names]
        words = pc.coalesce(*texts, nothing)
        kind = text(pc.struct_field(parts, "type"))[0] if "type" in names else nothing
        # A part that says no type is a text where it has one.
        is_words = _mask(pc.fill_null(pc.is_in(kind, value_set=pa.array(_TEXT_PARTS)), False))
        is_words = np.where(_mask(pc.is_null(kind)), _mask(pc.is_valid(words)), is_words)
        media = _mask(pc.fill_null(pc.match_substring_regex(kind, _MEDIA), False))
        for name in names:
            if name in ("image", "image_url", "video", "audio"):
                media |= has_value(pc.struct_field(parts, name))
        fault[~is_words] = NUMBERS[RowReason.CONTENT_IS_NOT_TEXT]
        fault[media] = NUMBERS[RowReason.MULTIMODAL]
    elif is_list(parts.type):
        words, fault = pa.nulls(len(parts), pa.string()), fault + NUMBERS[RowReason.CONTENT_IS_NOT_TEXT]
    else:
        words, fault = text(parts)
    lengths = _lengths(column)
    whole = pc.binary_join(list_array(lengths, words, pa.list_(pa.string())), "")
    missing = pa.scalar(None, pa.string())
    whole = pc.if_else(pc.is_valid(column), whole, missing)
    of_row = np.zeros(len(column), np.int8)
    at = np.repeat(np.arange(len(column)), lengths)
    for number in (NUMBERS[RowReason.CONTENT_IS_NOT_TEXT], NUMBERS[RowReason.MULTIMODAL]):
        of_row[at[fault == number]] = number
    return pc.if_else(pa.array(of_row > 0), missing, whole), of_row


def _lengths(column: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)


def _mask(column: pa.Array) -> np.ndarray:
    return column.to_numpy(zero_copy_only=False).astype(bool)
