"""Raw rows of any understood shape to standardized rows, and the reasons for those that cannot be.

Vectorized over the messages of thousands of rows at a time; Python loops only over the distinct roles and
over rejected rows.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import UserError
from sft.core.row_schema import MESSAGES, SCHEMA, standard_table
from sft.data import message_columns
from sft.data.message_columns import MessageColumns
from sft.data.source_rows import Reason, Reject, SourceRows

LISTS = ("messages", "conversations", "conversation")
SYSTEMS = ("system", "system_prompt")
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "response"), ("question", "answer"))
_SHAPES = (
    "conversations (ShareGPT: lists of from and value), messages (OpenAI: lists of role and content), "
    "instruction and output, with or without input (Alpaca), "
) + ", ".join(f"{question} and {answer}" for question, answer in PAIRS)

_ALIASES = {
    "system": "system system_prompt system_message developer",
    "user": "user human prompter prompt input question customer",
    "assistant": "assistant gpt chatgpt chat_gpt bing bard claude gemini llama model ai bot chatbot output "
    "answer response completion agent function_call tool_call tool_calls",
    "tool": "tool tools function function_response function_result function_output tool_response tool_result "
    "tool_results tool_output observation observations ipython environment",
}
_ROLES = list(_ALIASES)
_SYSTEM, _ASSISTANT = _ROLES.index("system"), _ROLES.index("assistant")
_UNKNOWN, _MISSING = -1, -2
_CODES = {alias: _ROLES.index(role) for role, aliases in _ALIASES.items() for alias in aliases.split()}

# Few enough rows that the texts of a batch stay below the 2 GB that one Arrow string array can hold.
_BATCH = 8_192


class RowReason(Reason):
    """What can be wrong with a message or a row."""

    UNKNOWN_ROLE = "unknown role"
    MISSING_ROLE = "missing role"
    CONTENT_IS_NOT_TEXT = "content is not text"
    TOOL_CALLS_WITHOUT_TEXT = "tool calls without text"
    MISSING_CONTENT = "missing content"
    BLANK_CONTENT = "blank content"
    EMPTY_CONVERSATION = "empty conversation"
    NO_ASSISTANT_TURN = "no assistant turn"
    MIXED_TYPES = "mixed types"


# The reasons as numbers, in arrays over rows and messages; 0 is none.
_REASONS = [None, *RowReason]
_NUMBERS = {reason: number for number, reason in enumerate(_REASONS)}


def standardize(
    raw: pa.Table,
    source: str,
    label: str | None = None,
    numbers: Sequence[int] | None = None,
    mixed: dict[str, dict[int, str]] | None = None,
    kind: str | None = None,
) -> SourceRows:
    """Turn raw rows into standardized ones, with contents exactly as they are and ids by content.

    A system message without text says nothing and is left out. Scalar columns that are no part of the
    conversation are kept; where one has a standard column's name, `source` becomes `origin`, `id` becomes
    `origin_id` and so on. `numbers` are the rows' numbers for rejects (None: their positions); `mixed` holds
    values of another type than their column's, by column and position (see `sft.data.file_readers.Raw`).
    `kind` is the rows' kind (None: `source`).
    Rejects and errors name the file by `label` (None: by `source`). Raises UserError where the columns have
    no understood shape.
    """
    label = label or source
    used = _used_columns(raw.schema, label)
    odd: dict[int, str] = {}
    for name in used.values():
        odd |= (mixed or {}).get(name, {})
    mistyped = np.zeros(raw.num_rows, bool)
    mistyped[list(odd)] = True
    lists, rejects, good, start = [], [], np.ones(raw.num_rows, bool), 0
    for batch in raw.select(list(dict.fromkeys(used.values()))).to_batches(max_chunksize=_BATCH):
        end = start + len(batch)
        messages = _messages(batch, used, label)
        codes, faults, culprits = _checked(messages, len(batch))
        faults[mistyped[start:end]] = _NUMBERS[RowReason.MIXED_TYPES]
        for at in np.flatnonzero(faults).tolist():
            reason = _REASONS[faults[at]]
            detail = repr(messages.role[culprits[at]].as_py()) if reason == RowReason.UNKNOWN_ROLE else ""
            number = numbers[start + at] if numbers is not None else start + at
            text = odd.get(start + at) or _excerpt(batch, at)
            rejects.append(Reject(label, number, reason, text, detail))
        good[start:end] = faults == 0
        lists.append(_lists(messages, codes, faults == 0))
        start = end
    table = standard_table(pa.chunked_array(lists, MESSAGES), source, kinds=kind)
    return SourceRows(_with_extras(table, raw, set(used.values()), good), rejects)


def _used_columns(schema: pa.Schema, label: str) -> dict[str, str]:
    """Name the columns that the conversation is made from: by what they are, in the file's own spelling."""
    names = {name.lower(): name for name in reversed(schema.names)}
    used: dict[str, str] = {}
    if "instruction" in names and "output" in names:
        used = {"instruction": names["instruction"], "answer": names["output"]}
        if "input" in names:
            used["input"] = names["input"]
    for question, answer in reversed(PAIRS):
        if question in names and answer in names:
            used = {"question": names[question], "answer": names[answer]}
    for name in reversed(LISTS):
        if name in names and message_columns.is_list(schema.field(names[name]).type):
            used = {"list": names[name]}
    if not used:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(
            f"{label}: the columns have no shape that is understood. Found: {columns or 'none'}. "
            f"Understood: {_SHAPES}. Rename the columns, or write the rows as messages."
        )
    for name in reversed(SYSTEMS):
        if name in names:
            used["system"] = names[name]
    return used


def _messages(batch: pa.RecordBatch, used: dict[str, str], label: str) -> MessageColumns:
    """Collect a batch's messages, whatever the columns that hold them."""

    def read(what: str, role: str) -> MessageColumns:
        return message_columns.from_column(batch.column(used[what]), role, f"{label}: column {used[what]!r}")

    if "list" in used:
        parts = [read("list", "")]
    elif "instruction" in used:
        request = read("instruction", "user")
        if "input" in used:
            request = _with_input(request, read("input", "user"))
        parts = [request, read("answer", "assistant")]
    else:
        parts = [read("question", "user"), read("answer", "assistant")]
    messages = message_columns.joined(parts)
    if "system" not in used:
        return messages
    has_own = np.zeros(len(batch), bool)
    has_own[messages.row[_role_codes(messages.role) == _SYSTEM]] = True
    system = read("system", "system")
    wanted = ~has_own[system.row] & (~message_columns.blank(system.content) | system.not_text)
    return message_columns.joined([system.take(wanted), messages])


def _with_input(request: MessageColumns, given: MessageColumns) -> MessageColumns:
    """Put Alpaca's optional input below the instruction."""
    both = pc.binary_join_element_wise(request.content, given.content, "\n\n")
    no_input, no_request = message_columns.blank(given.content), message_columns.blank(request.content)
    content = pc.if_else(pa.array(no_request), given.content, both)
    content = pc.if_else(pa.array(no_input), request.content, content)
    return replace(request, content=content, not_text=request.not_text | given.not_text)


def _role_codes(role: pa.Array) -> np.ndarray:
    """Map roles, whatever they are called, to positions in _ROLES; _UNKNOWN or _MISSING for others."""
    encoded = role.dictionary_encode()
    codes = [
        _CODES.get(name.strip().lower().replace("-", "_").replace(" ", "_"), _UNKNOWN)
        for name in encoded.dictionary.to_pylist()
    ]
    indices = pc.fill_null(encoded.indices, len(codes)).to_numpy(zero_copy_only=False)
    return np.array([*codes, _MISSING], np.int8)[indices]


def _checked(messages: MessageColumns, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each message's role code, each row's fault (0: none) and each row's first faulty message."""
    codes = _role_codes(messages.role)
    blank = message_columns.blank(messages.content)
    faults = np.select(
        [
            codes == _UNKNOWN,
            codes == _MISSING,
            messages.not_text,
            blank & messages.calls,
            blank & (codes != _SYSTEM) & pc.is_null(messages.content).to_numpy(zero_copy_only=False),
            blank & (codes != _SYSTEM),
        ],
        [
            _NUMBERS[RowReason.UNKNOWN_ROLE],
            _NUMBERS[RowReason.MISSING_ROLE],
            _NUMBERS[RowReason.CONTENT_IS_NOT_TEXT],
            _NUMBERS[RowReason.TOOL_CALLS_WITHOUT_TEXT],
            _NUMBERS[RowReason.MISSING_CONTENT],
            _NUMBERS[RowReason.BLANK_CONTENT],
        ],
        _NUMBERS[None],
    )
    # Of several faults of a row the first counts: it is assigned last.
    faulty = np.flatnonzero(faults)[::-1]
    of_row, culprits = np.zeros(rows, np.int8), np.zeros(rows, np.int64)
    of_row[messages.row[faulty]] = faults[faulty]
    culprits[messages.row[faulty]] = faulty
    answered = np.zeros(rows, bool)
    answered[messages.row[codes == _ASSISTANT]] = True
    of_row[(of_row == 0) & ~answered] = _NUMBERS[RowReason.NO_ASSISTANT_TURN]
    of_row[np.bincount(messages.row, minlength=rows) == 0] = _NUMBERS[RowReason.EMPTY_CONVERSATION]
    return codes, of_row, culprits


def _lists(messages: MessageColumns, codes: np.ndarray, good: np.ndarray) -> pa.Array:
    """Build the good rows' conversations, without the system messages that say nothing."""
    wanted = good[messages.row] & ~((codes == _SYSTEM) & message_columns.blank(messages.content))
    if not wanted.all():
        messages, codes = messages.take(wanted), codes[wanted]
    lengths = np.bincount(messages.row, minlength=len(good))[good]
    role = pa.array(_ROLES).take(pa.array(codes))
    fields = list(MESSAGES.value_type)
    given = [role, messages.content] + [pa.nulls(len(role), field.type) for field in fields[2:]]
    values = pa.StructArray.from_arrays(given, fields=fields)
    return message_columns.list_array(lengths, values, MESSAGES)


def _with_extras(table: pa.Table, raw: pa.Table, used: set[str], good: np.ndarray) -> pa.Table:
    """Add the scalar columns that the conversation is not made from, renamed where a name is taken."""
    extras = [field.name for field in raw.schema if field.name not in used and _is_scalar(field.type)]
    rows = raw.select(extras)
    if not good.all():
        rows = rows.filter(pa.array(good))
    for name, column in zip(extras, rows.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        kind = pa.string() if message_columns.is_text(kind) else kind
        if name in SCHEMA.names:
            name = "origin" if name == "source" else f"origin_{name}"
        while name in table.column_names:
            name += "_"
        table = table.append_column(name, column.cast(kind))
    return table


def _is_scalar(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    return message_columns.is_text(kind) or pa.types.is_primitive(kind) or pa.types.is_decimal(kind)


def _excerpt(batch: pa.RecordBatch, at: int) -> str:
    return json.dumps(batch.slice(at, 1).to_pylist()[0], ensure_ascii=False, default=str)
