"""Messages of many conversations as flat parallel arrays: what the shapes of raw rows are turned into."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import UserError
from sft.core.row_schema import MESSAGES
from sft.data import arrays
from sft.data.flags import flag
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
    if arrays.is_list(column.type):
        return from_lists(column, where)
    if pa.types.is_struct(column.type):
        lengths = np.asarray(pc.is_valid(column)).astype(np.int64)
        given = column.filter(pc.is_valid(column))
        return from_lists(arrays.list_array(lengths, given, pa.list_(column.type)), where)
    content, fault = arrays.text(column)
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
    contents = [arrays.text(given[key]) for key in content_keys]
    fault = np.zeros(len(messages), np.int8)
    for _, of_content in contents:
        fault = np.where(fault == 0, of_content, fault)
    further, unreadable = _further(given)
    fault[(fault == 0) & unreadable] = NUMBERS[RowReason.UNREADABLE_CALLS]
    row = np.repeat(np.arange(len(column)), arrays.lengths(column))
    unused = {key: arrays.has_value(pc.struct_field(messages, key)) for key in fields if key not in KEYS}
    trained, of_flags = _trained(given)
    unused |= of_flags
    return MessageColumns(
        row,
        pc.coalesce(*(arrays.text(given[key])[0] for key in role_keys), nothing),
        pc.coalesce(*(content for content, _ in contents), nothing),
        fault,
        {name: values for name, values in (further | trained).items() if values.null_count < len(values)},
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


def _further(given: dict[str, pa.Array]) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Read what a message has beside its role and content; mark the messages with unreadable tool calls."""
    further: dict[str, pa.Array] = {}
    reasoning = [arrays.said(given[key]) for key in REASONING_KEYS if key in given]
    if reasoning := reasoning + [arrays.thoughts(given[key]) for key in CONTENT_KEYS if key in given]:
        further["reasoning"] = pc.coalesce(*reasoning)
    for key in NAME_KEYS:
        if key in given:
            further[key] = arrays.said(given[key])
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


def _trained(given: dict[str, pa.Array]) -> tuple[dict[str, pa.Array], dict[str, np.ndarray]]:
    """Return `trained`: false for the messages that the source masks, null for the others.

    Also marks, by a text that says so, the messages whose flag is neither on nor off.
    """
    masked, unclear = [], {}
    for key in (WEIGHT_KEY, *TRAIN_KEYS):
        if key in given:
            off, other = _flags(given[key])
            masked.append(off)
            unclear[f"{key} other than 0 and 1"] = other
    if not masked:
        return {}, {}
    out = np.logical_or.reduce(masked)
    return {"trained": pa.array(np.zeros(len(out), bool), pa.bool_(), mask=~out)}, unclear


def _flags(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Mark the messages that a flag switches off, and those where it is neither on nor off."""
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return np.zeros(len(column), bool), arrays.has_value(column)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    known = [flag(value) for value in values]
    at = pc.fill_null(encoded.indices, len(known)).to_numpy(zero_copy_only=False)
    off = np.array([*(value == 0 for value in known), False], bool)
    other = np.array([*(value is None for value in known), False], bool)
    return off[at], other[at]
