"""Raw rows of any understood layout to standardized rows, and the reasons for those that cannot be.

Vectorized over the messages of thousands of rows at a time; Python loops only over the distinct roles, over
rejected rows and over what has tools.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.core.row_schema import MESSAGES, standard_table
from sft.data import arrays, kept_columns, layouts, limits
from sft.data.batch_sizes import batches
from sft.data.columns import MEDIA
from sft.data.conversations import messages_of, tools_of
from sft.data.message_columns import MessageColumns
from sft.data.roles import ASSISTANT, MISSING, ROLES, SYSTEM, TOOL, UNKNOWN, USER, role_codes
from sft.data.row_reasons import NUMBERS, REASONS, RowReason
from sft.data.source_rows import SHOWN, Reason, Reject, SourceRows
from sft.data.thoughts import take_thoughts
from sft.data.tool_calls import calls_json, converted

# The texts of a batch must stay below the 2 GB that one Arrow string array can hold.
_BATCH, _MOST_OF_BATCH = 8_192, 1 << 29
# What stands in a text for a picture, a film or a sound of another column.
_PLACEHOLDER = r"<(image|video|audio)>"
_ALONE = rf"(?:^|\n)\s*{_PLACEHOLDER}|{_PLACEHOLDER}\s*$"
# Which further fields messages of a role have.
_OF_ROLE = {
    **dict.fromkeys(("reasoning", "tool_calls", "trained"), ASSISTANT),
    **dict.fromkeys(("tool_call_id", "name"), TOOL),
}


class SkipReason(Reason):
    """Why a row is left out by the user's own choice."""

    NOT_CHOSEN = "not labelled true"


def standardize(
    raw: pa.Table,
    source: str,
    label: str | None = None,
    numbers: Sequence[int] | None = None,
    mixed: dict[str, dict[int, str]] | None = None,
    kind: str | None = None,
    chosen: bool = False,
) -> SourceRows:
    """Turn raw rows into standardized ones, with contents exactly as they are and ids by content.

    Only an assistant's reasoning is taken out of its content, where that begins with it (see
    `sft.data.thoughts`). A system message without text says nothing and is left out. Scalar columns that are
    no part of the conversation are kept; where one has a standard column's name, `source` becomes `origin`,
    `id` becomes `origin_id` and so on. `numbers` are the rows' numbers for rejects (None: their positions);
    `mixed` holds values of another type than their column's, by column and position (see
    `sft.data.raw_rows.Raw`).
    `kind` is the rows' kind (None: `source`); with `chosen` preference data is read as its chosen answers.
    Rejects and errors name the file by `label` (None: by `source`). Raises UserError where the columns have
    no understood layout.
    """
    label = label or source
    found = layouts.found(raw.schema, label, chosen)
    used = {what: name for what, name in found.used.items() if what != "rejected"}
    listed = None if "chosen" in used else used.get("list")
    odd: dict[int, str] = {}
    for name in used.values():
        odd |= (mixed or {}).get(name, {})
    mistyped = np.zeros(raw.num_rows, bool)
    mistyped[list(odd)] = True
    unwanted = ~np.asarray(pc.fill_null(raw[used["label"]], False)) if "label" in used else mistyped & False
    media = [name for name in raw.column_names if name.lower() in MEDIA and name not in used.values()]
    columns = list(dict.fromkeys([*used.values(), *media]))
    lists, tools, rejects, good, start = [], [], [], np.ones(raw.num_rows, bool), 0
    dropped: Counter[str] = Counter()
    for batch in batches(raw.select(columns), _BATCH, _MOST_OF_BATCH):
        end = start + len(batch)
        messages = messages_of(batch, used, label)
        codes = _understood(messages)
        dropped.update(messages.unused)
        faults, culprits = _checked(messages, codes, len(batch))
        faults[_multimodal(batch, media, messages, codes)] = NUMBERS[RowReason.MULTIMODAL]
        of_rows, unreadable, unread = tools_of(batch, used)
        faults[unreadable & (faults == 0)] = NUMBERS[RowReason.UNREADABLE_TOOLS]
        dropped.update(unread)
        faults[mistyped[start:end]] = NUMBERS[RowReason.MIXED_TYPES]
        faults[unwanted[start:end]] = 0
        for at in np.flatnonzero(faults).tolist():
            reason = REASONS[faults[at]]
            detail = repr(messages.role[culprits[at]].as_py()) if reason == RowReason.UNKNOWN_ROLE else ""
            number = numbers[start + at] if numbers is not None else start + at
            text = odd.get(start + at) or _excerpt(batch, at, listed, messages, culprits[at])
            rejects.append(Reject(label, number, reason, text, detail))
        good[start:end] = (faults == 0) & ~unwanted[start:end]
        lists.append(_lists(messages, codes, good[start:end]))
        tools.append(of_rows.filter(pa.array(good[start:end])))
        start = end
    table = standard_table(
        pa.chunked_array(lists, MESSAGES), source, kinds=kind, tools=pa.chunked_array(tools, pa.string())
    )
    dropped.update(kept_columns.dropped(raw, used, found.used.get("rejected"), mixed or {}))
    return SourceRows(
        kept_columns.with_kept(table, raw, set(found.used.values()), good),
        rejects,
        {SkipReason.NOT_CHOSEN: int(unwanted.sum())} if unwanted.any() else {},
        [found.layout.name],
        list(dict.fromkeys(used.values())),
        {name: rows for name, rows in dropped.items() if rows},
    )


def _understood(messages: MessageColumns) -> np.ndarray:
    """Return each message's role code, having put tool calls and reasoning where they belong.

    A further field that messages of the role do not have is left out, and its rows counted in `unused`.
    """
    codes, is_call = role_codes(messages.role)
    is_call &= ~arrays.blank(messages.content) & (messages.fault == 0)
    if is_call.any():
        where = pa.array(is_call)
        calls, unreadable = converted(messages.content.filter(where), calls_json)
        messages.further["tool_calls"] = pc.replace_with_mask(messages.of("tool_calls"), where, calls)
        messages.content = pc.if_else(where, "", messages.content)
        messages.fault[np.flatnonzero(is_call)[unreadable]] = NUMBERS[RowReason.UNREADABLE_CALLS]
    for name, values in messages.further.items():
        belongs = codes == _OF_ROLE[name]
        stray = ~belongs & np.asarray(pc.is_valid(values))
        if stray.any():
            messages.further[name] = pc.if_else(pa.array(belongs), values, pa.scalar(None, values.type))
            messages.unused[f"{name} of other roles"] = len(np.unique(messages.row[stray]))
    take_thoughts(messages, codes == ASSISTANT)
    return codes


def _checked(messages: MessageColumns, codes: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's fault (0: none) and its first faulty message (-1: none)."""
    blank = arrays.blank(messages.content)
    missing = np.asarray(pc.is_null(messages.content))
    calls = np.asarray(pc.is_valid(messages.of("tool_calls")))
    needs_text = blank & (codes != SYSTEM) & ~calls
    faults = np.select(
        [
            codes == UNKNOWN,
            codes == MISSING,
            messages.fault > 0,
            needs_text & missing,
            # A tool may have nothing to say.
            needs_text & (codes != TOOL),
        ],
        [
            NUMBERS[RowReason.UNKNOWN_ROLE],
            NUMBERS[RowReason.MISSING_ROLE],
            messages.fault,
            NUMBERS[RowReason.MISSING_CONTENT],
            NUMBERS[RowReason.BLANK_CONTENT],
        ],
        NUMBERS[None],
    )
    # Of several faults of a row the first counts: it is assigned last.
    faulty = np.flatnonzero(faults)[::-1]
    of_row, culprits = np.zeros(rows, np.int8), np.full(rows, -1)
    of_row[messages.row[faulty]] = faults[faulty]
    culprits[messages.row[faulty]] = faulty
    for which, reason in (
        (codes == ASSISTANT, RowReason.NO_ASSISTANT_TURN),
        (np.asarray(pc.is_null(messages.of("trained"))), RowReason.NOTHING_TRAINED),
    ):
        answered = np.zeros(rows, bool)
        answered[messages.row[(codes == ASSISTANT) & which]] = True
        of_row[(of_row == 0) & ~answered] = NUMBERS[reason]
    counts = np.bincount(messages.row, minlength=rows)
    of_row[counts == 0] = NUMBERS[RowReason.EMPTY_CONVERSATION]
    of_row[counts > limits.MESSAGES] = NUMBERS[RowReason.TOO_MANY_MESSAGES]
    return of_row, culprits


def _multimodal(
    batch: pa.RecordBatch, media: list[str], messages: MessageColumns, codes: np.ndarray
) -> np.ndarray:
    """Mark the rows with pictures and the like: a path or an address only where the text has its place.

    The place stands anywhere in the text where there is such a column, else at its begin, at its end or on a
    line of its own.
    """
    marked = np.zeros(len(batch), bool)
    if arrays.anywhere(messages.content, "<image>", "<video>", "<audio>"):
        # With an end it is XML, such as a feed's.
        alone = pc.and_not(
            pc.match_substring_regex(messages.content, _ALONE),
            pc.match_substring_regex(messages.content, _PLACEHOLDER.replace("<", "</")),
        )
        marked[messages.row[np.asarray(pc.fill_null(alone, False)) & (codes == USER)]] = True
    for name in media:
        column = batch.column(name)
        given = arrays.has_value(column)
        if arrays.is_text(column.type):
            placed = np.zeros(len(batch), bool)
            places = pc.fill_null(pc.match_substring_regex(messages.content, _PLACEHOLDER), False)
            placed[messages.row[np.asarray(places)]] = True
            given &= placed
        marked |= given
    return marked


def _lists(messages: MessageColumns, codes: np.ndarray, good: np.ndarray) -> pa.Array:
    """Build the good rows' conversations, without the system messages that say nothing."""
    wanted = good[messages.row] & ~((codes == SYSTEM) & arrays.blank(messages.content))
    if not wanted.all():
        messages, codes = messages.take(wanted), codes[wanted]
    lengths = np.bincount(messages.row, minlength=len(good))[good]
    fields = list(MESSAGES.value_type)
    role = pa.array(ROLES).take(pa.array(codes))
    content = pc.fill_null(messages.content, "") if messages.content.null_count else messages.content
    further = [messages.of(field.name) for field in fields if field.name not in ("role", "content")]
    values = pa.StructArray.from_arrays([role, content, *further], fields=fields)
    return arrays.list_array(lengths, values, MESSAGES)


def _excerpt(batch: pa.RecordBatch, at: int, name: str | None, messages: MessageColumns, culprit: int) -> str:
    """Write out a row; of a long list of messages, in the column `name`, the one that is at fault."""
    shown = [_beginning(batch.column(column).slice(at, 1)) for column in batch.schema.names]
    try:
        text = json.dumps(dict(zip(batch.schema.names, shown, strict=True)), ensure_ascii=False, default=str)
        if len(text) <= SHOWN or name is None or culprit < 0:
            return text
        of_row = batch.column(name).slice(at, 1)
        _, end = np.searchsorted(messages.row, [at, at + 1])
        behind = int(end - culprit)  # a system message of a column of its own may stand before the list
        before = len(of_row.flatten()) - behind if arrays.is_list(of_row.type) else -1
        if before < 0:
            return text
        message = of_row.flatten()[before].as_py()
        return f"message {before + 1}: {json.dumps(message, ensure_ascii=False, default=str)}"
    except (RecursionError, TypeError):
        return "(nested too deeply to be shown)"


def _beginning(value: pa.Array) -> Any:
    """Return the one value of an array, of a long list the begin: it may have millions of messages."""
    if arrays.is_list(value.type) and len(value.flatten()) > SHOWN:
        return value.flatten().slice(0, SHOWN).to_pylist()
    return value[0].as_py()
