"""Parsed JSON objects to an Arrow table, where Arrow's own JSON reader cannot: arrays, mixed types, tools."""

import json
import math
from collections import Counter
from typing import Any

import pyarrow as pa

from sft.data.arrays import PART_KEYS, THINKING
from sft.data.columns import READ, TOOLS, WRAPPERS
from sft.data.limits import COLUMNS
from sft.data.message_columns import (
    CALL_KEYS,
    CONTENT_KEYS,
    NAME_KEYS,
    REASONING_KEYS,
    ROLE_KEYS,
    TRAIN_KEYS,
    WEIGHT_KEY,
)
from sft.data.roles import is_tool

# Their values are kept as JSON, for Arrow would give every object the keys of all others.
_AS_JSON = frozenset(TOOLS)
_PLAIN_KEYS = frozenset((*ROLE_KEYS, *REASONING_KEYS))
_KNOWN = READ | {*ROLE_KEYS, *CONTENT_KEYS}
_FLAGS = frozenset((*TRAIN_KEYS, WEIGHT_KEY))
_NOTHING: tuple[Any, ...] = (None, "", [], {})


def parse(text: str) -> Any:
    """Parse JSON; raises ValueError saying what is wrong and where, counting lines within `text`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # an integer of thousands of digits
        raise ValueError("a number of too many digits") from None


def has_escapes(text: str) -> bool:
    """Tell whether JSON may hold half of a surrogate pair: that is valid JSON, but no text."""
    return "\\ud" in text or "\\uD" in text


def check(row: Any, escapes: bool = True) -> dict[str, Any]:
    """Return `row` if it is an object that Arrow can hold; raises ValueError where it is not.

    `escapes` is what `has_escapes` says of its text.
    """
    if not isinstance(row, dict):
        raise ValueError("not an object")
    if len(row) > COLUMNS:
        raise ValueError(f"{len(row):,} keys, and {COLUMNS:,} are read at most")
    if escapes:
        try:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair") from None
        except RecursionError:
            raise ValueError("nested too deeply") from None
    return row


def wrapped(value: Any) -> list[Any] | None:
    """Return the rows of a file that is one object: those under a name such as data, or the object itself."""
    if not isinstance(value, dict):
        return None
    names = row_lists(value)
    return value[names[0]] if names else [value]


def row_lists(value: Any) -> list[str]:
    """Return under which names a file that is one object has lists of rows: that of its rows, then others."""
    if not isinstance(value, dict) or any(key.lower() in READ for key in value):
        return []
    names = [
        name for name, rows in value.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)
    ]
    first = next((name for name in WRAPPERS if name in names), None)
    return [first, *(name for name in names if name != first)] if first else []


def to_table(rows: list[dict[str, Any]]) -> tuple[pa.Table, dict[str, dict[int, str]]]:
    """Build a table from objects, and give by column and row the values that do not fit the column's type.

    Such values become null. A column's type is the one that most of its values have, widened to whatever
    merges with it. Of messages what `message_columns` reads is kept, of their other fields whether there is
    anything; so of other nested columns, as binary.
    """
    columns, mixed = {}, {}
    names = dict.fromkeys(key for row in rows for key in row)
    kept = _AS_JSON | ({"answers"} if "query" in map(str.lower, names) else set())
    for name in names:
        values = [row.get(name) for row in rows]
        known = name.lower()
        if known in kept:
            values = [as_json(value) for value in values]
        elif known in READ:
            values = _uniform(values)
        elif known == "choices" and all(value is None or _is_texts(value) for value in values):
            pass
        elif any(isinstance(value, list | dict) for value in values):
            values = [_outline(value) for value in values]
        columns[name], odd = _array(values)
        if odd:
            mixed[name] = odd
    return pa.table(columns), mixed


def _outline(value: Any) -> Any:
    """Return of an object, or of a list of them, which known columns and keys of messages it has.

    Of other nested values only that they are there.
    """
    if value in _NOTHING:
        return None
    objects = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    known = {
        key: _of_its_kind(inner) for one in objects for key, inner in one.items() if key.lower() in _KNOWN
    }
    if not known:
        return b""
    return [known] if isinstance(value, list) else known


def _of_its_kind(value: Any) -> Any:
    return next((kind() for kind in (str, list, dict) if isinstance(value, kind)), True)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _array(values: list[Any]) -> tuple[pa.Array, dict[int, str]]:
    try:
        return pa.array(values), {}
    except (pa.ArrowException, OverflowError):
        pass
    kinds = [_kind(value) for value in values]
    fitting = pa.null()
    for kind, _ in Counter(kind for kind in kinds if kind is not None).most_common():
        fitting = _merged(fitting, kind) or fitting
    # Where texts are missing, pandas writes NaN.
    missing = [pa.types.is_string(fitting) and _is_nan(value) for value in values]
    odd = {
        at: str(as_json(values[at]))
        for at, kind in enumerate(kinds)
        if not missing[at] and (_merged(fitting, kind) != fitting or not _fits(values[at], fitting))
    }
    left = [None if at in odd or missing[at] else value for at, value in enumerate(values)]
    return pa.array(left, fitting), odd


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _kind(value: Any) -> pa.DataType | None:
    try:
        return pa.infer_type([value])
    except (pa.ArrowException, OverflowError):
        return None


def _fits(value: Any, kind: pa.DataType) -> bool:
    """Tell whether a value is within the limits of a type: an integer may be too large."""
    try:
        pa.array([value], kind)
    except (pa.ArrowException, OverflowError):
        return False
    return True


def _merged(one: pa.DataType, other: pa.DataType | None) -> pa.DataType | None:
    if other is None:
        return None
    try:
        schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def as_json(value: Any) -> Any:
    """Return what is nested as JSON, anything else as it is."""
    if not isinstance(value, list | dict):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply)"


def _uniform(values: list[Any]) -> list[Any]:
    """Reduce messages to the keys that matter; where any content is a list of parts, make all of them so."""
    others: set[str] = set()
    values = [
        [_message(one, others) for one in value] if isinstance(value, list) else _message(value, others)
        for value in values
    ]
    messages = [
        one
        for value in values
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, dict)
    ]
    for key in CONTENT_KEYS:
        if any(isinstance(one.get(key), list) for one in messages):
            for one in messages:
                if isinstance(one.get(key), str):
                    one[key] = [{"type": "text", "text": one[key]}]
    return values


def _message(message: Any, others: set[str]) -> Any:
    """Reduce a message; `others` collects the names of fields that are not read: Arrow bears not many."""
    if not isinstance(message, dict):
        return message
    kept: dict[str, Any] = {}
    for key, value in message.items():
        if key in CONTENT_KEYS:
            kept[key] = [_part(part) for part in value] if isinstance(value, list) else value
            if isinstance(value, dict):  # what a tool gives; else no text, whatever is in it
                gives = any(is_tool(message.get(role)) for role in ROLE_KEYS)
                kept[key] = as_json(value) if gives else {"object": True}
        elif key in CALL_KEYS:
            kept[key] = None if value in _NOTHING else as_json(value)
        elif key in NAME_KEYS:
            kept[key] = value if value is None or isinstance(value, str) else as_json(value)
        elif key in _PLAIN_KEYS:
            kept[key] = value
        elif key in _FLAGS:  # true, 0.0 and "no" have no type in common
            kept[key] = value if value is None or isinstance(value, str) else str(as_json(value))
        elif key in others or len(others) < COLUMNS:  # only whether there is something
            others.add(key)
            kept[key] = None if value in _NOTHING else True
    return kept


def _part(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    kept = {key: part[key] for key in ("type", *PART_KEYS, THINKING) if key in part}
    # Of a picture it is enough to know that there is one.
    for key in ("image", "image_url", "video", "audio"):
        if part.get(key) not in _NOTHING:
            kept[key] = True
    return kept
