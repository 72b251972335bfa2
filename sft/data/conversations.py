"""A batch of raw rows to messages, whatever the columns of the layout that hold them."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import UserError
from sft.data import arrays, message_columns
from sft.data.columns import Used, columns_for, jq_path
from sft.data.message_columns import ROLE_KEYS, MessageColumns
from sft.data.roles import SYSTEM, USER, role_codes
from sft.data.row_reasons import NUMBERS, RowReason
from sft.data.tool_calls import calls_json, converted, tools_json

_TURN = re.compile(r"(?:^|\n\n)\s*(Human|Assistant):")


def messages_of(batch: pa.RecordBatch, used: Used, label: str) -> MessageColumns:
    """Collect a batch's messages from the columns that are used.

    Raises UserError, naming the file by `label`, for a column of lists that are no messages.
    """
    reader = _Reader(batch, used, label)
    if "list" in used:
        parts = [reader.read("list", "")]
    elif "question" in used:
        parts = [*reader.history(), reader.question()]
    else:
        parts = []
    if "chosen" in used:
        parts = [reader.chosen(parts)]
    elif "list" not in used:
        parts.append(reader.answer())
    messages = message_columns.joined(parts)
    if "system" not in used:
        return messages
    has_own = np.zeros(len(batch), bool)
    has_own[messages.row[role_codes(messages.role)[0] == SYSTEM]] = True
    for name in columns_for(used, "system"):
        system = reader.column(name, "system")
        says = ~arrays.blank(system.content) | (system.fault > 0)
        if beside := len(np.unique(system.row[says & has_own[system.row]])):
            system.unused[f"{name} beside another system message"] = beside
        wanted = ~has_own[system.row] & says
        has_own[system.row[wanted]] = True
        messages = message_columns.joined([system.take(wanted), messages])
    return messages


class _Reader:
    """The columns of one batch."""

    def __init__(self, batch: pa.RecordBatch, used: Used, label: str) -> None:
        self.batch, self.used, self.label = batch, used, label

    def read(self, what: str, role: str) -> MessageColumns:
        return self.column(self.used[what], role)

    def column(self, name: str, role: str) -> MessageColumns:
        column, where = self.batch.column(name), f"{self.label}: column {name!r}"
        if pa.types.is_struct(column.type) and not {field.name for field in column.type} & {*ROLE_KEYS}:
            raise UserError(
                f"{where} holds objects, which are no messages. Where they are what is said, write them as "
                f"text: jq -c '{jq_path(name)} |= tojson'."
            )
        if role != "system" and pa.types.is_primitive(column.type) and len(column) > column.null_count:
            raise UserError(
                f"{where} holds {column.type}, not text. Write it as text: "
                f"jq -c '{jq_path(name)} |= tostring'."
            )
        messages = message_columns.from_column(column, role, where)
        return replace(messages, unused={f"{name}.{key}": rows for key, rows in messages.unused.items()})

    def question(self) -> MessageColumns:
        """Read what is asked, with Alpaca's optional input and a context below it."""
        request = self.read("question", "user")
        for name in columns_for(self.used, "input"):
            request = self._with_below(request, name)
        return request

    def _with_below(self, request: MessageColumns, name: str) -> MessageColumns:
        given, fault = arrays.text(self.batch.column(name))
        both = pc.binary_join_element_wise(request.content, given, "\n\n")
        no_input, no_request = arrays.blank(given), arrays.blank(request.content)
        content = pc.if_else(pa.array(no_request), given, both)
        content = pc.if_else(pa.array(no_input), request.content, content)
        return replace(request, content=content, fault=np.where(request.fault, request.fault, fault))

    def answer(self) -> MessageColumns:
        if "calls" in self.used:
            calls, unreadable = converted(self.batch.column(self.used["calls"]), calls_json)
            rows = len(self.batch)
            fault = unreadable * np.int8(NUMBERS[RowReason.UNREADABLE_CALLS])
            nothing = pa.nulls(rows, pa.string())
            return MessageColumns(
                np.arange(rows), pa.repeat("assistant", rows), nothing, fault, {"tool_calls": calls}
            )
        if "ranked" in self.used:
            ranked = self.batch.column(self.used["ranked"]).to_pylist()
            best = pa.array([texts[0] if texts else None for texts in ranked], pa.string())
            return message_columns.from_column(best, "assistant", self.label)
        answer = self.read("answer", "assistant")
        if names := columns_for(self.used, "reasoning"):
            columns = [arrays.said(self.batch.column(name)) for name in names]
            answer.further["reasoning"] = pc.coalesce(*columns)
            answer.unused |= _unread(names, columns)
        return answer

    def history(self) -> list[MessageColumns]:
        """Read the turns before the instruction: lists of pairs of a question and an answer."""
        if "history" not in self.used:
            return []
        column = self.batch.column(self.used["history"])
        if arrays.is_list(column.type) and pa.types.is_struct(column.type.value_type):
            return [self.read("history", "user")]
        given = np.flatnonzero(arrays.has_value(column))
        if not len(given):
            return []
        kind = column.type.value_type if arrays.is_list(column.type) else pa.null()
        if not (arrays.is_list(kind) and arrays.is_text(kind.value_type)):
            return [_unreadable_history(given)]
        pairs = pc.list_flatten(column)
        row = np.repeat(np.arange(len(column)), np.asarray(pc.fill_null(pc.list_value_length(column), 0)))
        bad = np.unique(row[np.asarray(pc.fill_null(pc.list_value_length(pairs), 0)) != 2])
        good = ~np.isin(row, bad)
        texts = pc.list_flatten(pairs.filter(pa.array(good))).cast(pa.string())
        row = np.repeat(row[good], 2)
        role = pa.array(["user", "assistant"] * (len(row) // 2), pa.string())
        turns = MessageColumns(row, role, texts, np.zeros(len(row), np.int8))
        return [turns, _unreadable_history(bad)] if len(bad) else [turns]

    def chosen(self, asked: list[MessageColumns]) -> MessageColumns:
        """Put the chosen answers behind what is asked; a conversation that asks itself stands alone."""
        column = self.batch.column(self.used["chosen"])
        if arrays.is_text(column.type):
            answers = _transcripts(column.cast(pa.string()))
        else:
            answers = self.read("chosen", "assistant")
        whole = np.zeros(len(self.batch), bool)
        whole[answers.row[role_codes(answers.role)[0] == USER]] = True
        return message_columns.joined([*(part.take(~whole[part.row]) for part in asked), answers])


def _unread(names: list[str], columns: list[pa.Array]) -> dict[str, int]:
    """Count the rows in which a column has something, and one before it too, which is what is read."""
    counts, read = {}, np.zeros(len(columns[0]), bool)
    for name, column in zip(names, columns, strict=True):
        has = np.asarray(pc.is_valid(column))
        if beside := int((has & read).sum()):
            counts[f"{name} beside {names[0]}"] = beside
        read |= has
    return counts


def tools_of(batch: pa.RecordBatch, used: Used) -> tuple[pa.Array, np.ndarray, dict[str, int]]:
    """Return a batch's tools as JSON, a mask of those that cannot be read, and what is not read, counted."""
    names, unreadable = columns_for(used, "tools"), np.zeros(len(batch), bool)
    if not names:
        return pa.nulls(len(batch), pa.string()), unreadable, {}
    columns = []
    for name in names:
        texts, faulty = converted(batch.column(name), tools_json)
        columns.append(texts)
        unreadable |= faulty
    return pc.coalesce(*columns), unreadable, _unread(names, columns)


def _unreadable_history(rows: np.ndarray) -> MessageColumns:
    fault = np.full(len(rows), NUMBERS[RowReason.UNREADABLE_HISTORY], np.int8)
    return MessageColumns(rows, pa.repeat("user", len(rows)), pa.nulls(len(rows), pa.string()), fault)


def _transcripts(texts: pa.Array) -> MessageColumns:
    """Read answers as texts; one that begins with `Human:` is a conversation, as hh-rlhf writes it out."""
    rows: list[int] = []
    roles: list[str] = []
    contents: list[str | None] = []
    for row, text in enumerate(texts.to_pylist()):
        pieces = _TURN.split(text) if text and text.lstrip().startswith("Human:") else ["", "assistant", text]
        for role, content in zip(pieces[1::2], pieces[2::2], strict=True):
            rows.append(row)
            roles.append(role)
            contents.append(content.strip() if len(pieces) > 3 else content)
    fault = np.zeros(len(rows), np.int8)
    return MessageColumns(
        np.array(rows, np.int64), pa.array(roles, pa.string()), pa.array(contents, pa.string()), fault
    )
