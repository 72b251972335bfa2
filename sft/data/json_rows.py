"""JSON to objects by Python's parser, and objects to what is read of them."""

import json
from collections.abc import Iterator
from typing import Any

from sft.data.arrays import PART_KEYS, THINKING
from sft.data.columns import READ, WRAPPERS
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


def outline(value: Any) -> Any:
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


def is_texts(value: Any) -> bool:
    """Tell whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def as_json(value: Any) -> Any:
    """Return what is nested as JSON, anything else as it is."""
    if not isinstance(value, list | dict):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply)"


def messages(values: list[Any], others: set[str]) -> list[Any]:
    """Reduce messages, or lists of them, to the keys that matter.

    `others` collects the names of fields that are not read, of which only is kept whether there is something.
    """
    return [
        [_message(one, others) for one in value] if isinstance(value, list) else _message(value, others)
        for value in values
    ]


def each_message(values: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the messages of values that are messages or lists of them."""
    for value in values:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield one


def make_parts(values: list[Any], key: str) -> None:
    """Make lists of parts of the messages' contents under `key` that are texts."""
    for one in each_message(values):
        if isinstance(one.get(key), str):
            one[key] = [{"type": "text", "text": one[key]}]


def _message(message: Any, others: set[str]) -> Any:
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
        elif key in others or len(others) < COLUMNS:  # Arrow bears not many
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
