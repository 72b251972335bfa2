"""Parsed JSON objects to an Arrow table, where Arrow's own JSON reader cannot: arrays, mixed types."""

import json
from collections import Counter
from typing import Any

import pyarrow as pa

from sft.data.message_columns import CALL_KEYS, CONTENT_KEYS, ROLE_KEYS
from sft.data.standardize import LISTS, PAIRS, SYSTEMS

# What a conversation may be made from; of other columns only the scalar ones are kept.
_COLUMNS = {*LISTS, *SYSTEMS, "instruction", "input", "output", *(name for pair in PAIRS for name in pair)}


def parse(text: str) -> Any:
    """Parse JSON; raises ValueError saying what is wrong and where, counting lines within `text`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check(row: Any) -> dict[str, Any]:
    """Return `row` if it is an object that Arrow can hold; raises ValueError."""
    if not isinstance(row, dict):
        raise ValueError("not an object")
    # "\ud800" without its other half is valid JSON, but no text.
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair") from None
    return row


def to_table(rows: list[dict[str, Any]]) -> tuple[pa.Table, dict[str, dict[int, str]]]:
    """Build a table from objects, and give by column and row the values that do not fit the column's type.

    Such values become null. A column's type is the one that most of its values have, widened to whatever
    merges with it. Of messages only what `message_columns` reads is kept; other nested columns are left out.
    """
    columns, mixed = {}, {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        if name.lower() in _COLUMNS:
            values = _uniform(values)
        elif any(isinstance(value, list | dict) for value in values):
            continue
        columns[name], odd = _array(values)
        if odd:
            mixed[name] = odd
    return pa.table(columns), mixed


def _array(values: list[Any]) -> tuple[pa.Array, dict[int, str]]:
    try:
        return pa.array(values), {}
    except (pa.ArrowException, OverflowError):
        pass
    kinds = [_kind(value) for value in values]
    fitting = pa.null()
    for kind, _ in Counter(kind for kind in kinds if kind is not None).most_common():
        fitting = _merged(fitting, kind) or fitting
    odd = {
        at: json.dumps(values[at], ensure_ascii=False)
        for at, kind in enumerate(kinds)
        if kind is None or _merged(fitting, kind) != fitting
    }
    return pa.array([None if at in odd else value for at, value in enumerate(values)], fitting), odd


def _kind(value: Any) -> pa.DataType | None:
    try:
        return pa.infer_type([value])
    except (pa.ArrowException, OverflowError):
        return None


def _merged(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    try:
        schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def _uniform(values: list[Any]) -> list[Any]:
    """Reduce messages to the keys that matter; where any content is a list of parts, make all of them so."""
    values = [[_message(one) for one in value] if isinstance(value, list) else value for value in values]
    messages = [one for value in values if isinstance(value, list) for one in value if isinstance(one, dict)]
    for key in CONTENT_KEYS:
        if any(isinstance(one.get(key), list) for one in messages):
            for one in messages:
                if isinstance(one.get(key), str):
                    one[key] = [{"type": "text", "text": one[key]}]
    return values


def _message(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    kept = {key: message[key] for key in (*ROLE_KEYS, *CONTENT_KEYS) if key in message}
    for key in CONTENT_KEYS:
        if isinstance(kept.get(key), list):
            kept[key] = [_part(part) for part in kept[key]]
    kept.update({key: bool(message[key]) for key in CALL_KEYS if key in message})
    return kept


def _part(part: Any) -> Any:
    return {key: part.get(key) for key in ("type", "text")} if isinstance(part, dict) else part
