"""Tools and tool calls, however a source writes them, as JSON in OpenAI's form."""

import ast
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from sft.data.limits import LITERAL

_NOTHING: tuple[Any, ...] = (None, "", [], {})


def tools_json(value: Any) -> str | None:
    """Return a row's tools, a list or its JSON, as a JSON list of `{"type": "function", "function": {...}}`.

    None where there are none. Raises ValueError where they cannot be read.
    """
    return _listed(value, _tool)


def calls_json(value: Any) -> str | None:
    """Return a message's tool calls, a list, one call or the JSON of these, as standardized rows have them.

    None where there are none. Raises ValueError where they cannot be read.
    """
    return _listed(value, _call)


def converted(values: pa.Array, read: Callable[[Any], str | None]) -> tuple[pa.Array, np.ndarray]:
    """Apply one of the two to an array; return the texts, and a mask of the values that cannot be read."""
    unreadable = np.zeros(len(values), bool)
    if values.null_count == len(values):
        return pa.nulls(len(values), pa.string()), unreadable
    cached = lru_cache(maxsize=1_024)(read)  # thousands of rows may have the same tools
    texts: list[str | None] = []
    for at, value in enumerate(values.to_pylist(maps_as_pydicts="lossy")):
        try:
            texts.append(cached(value) if isinstance(value, str) else read(_without_nulls(value)))
        except (ValueError, TypeError, RecursionError):
            texts.append(None)
            unreadable[at] = True
    return pa.array(texts, pa.string()), unreadable


def _listed(value: Any, read: Callable[[Any], dict[str, Any]]) -> str | None:
    value = _parsed(value)
    if value in _NOTHING:
        return None
    entries = [read(_parsed(entry)) for entry in (value if isinstance(value, list) else [value])]
    text = json.dumps(entries, ensure_ascii=False, allow_nan=False)
    text.encode("utf-8")  # JSON may hold half of a surrogate pair, a text may not
    return text


def _parsed(value: Any) -> Any:
    """Parse JSON, or what is written as Python's literals (glaive's arguments are)."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError:
        if len(value) > LITERAL:
            raise ValueError("no JSON, and too long for a literal") from None
        try:
            return ast.literal_eval(value.strip())
        except (SyntaxError, MemoryError, TypeError):
            raise ValueError("neither JSON nor a literal") from None


def _tool(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a tool is an object")
    function = value.get("function", value)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError("a tool has a name")
    function = {key: inner for key, inner in function.items() if function is not value or key != "type"}
    return {"type": "function", "function": function}


def _call(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a call is an object")
    function = value.get("function", value)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValueError("a call has the name of a function")
    arguments = function.get("arguments", function.get("parameters", {}))
    call: dict[str, Any] = {"type": "function"}
    if value.get("id"):
        call = {"id": str(value["id"]), **call}
    return {**call, "function": {"name": function["name"], "arguments": _arguments(arguments)}}


def _arguments(value: Any) -> Any:
    """Return the arguments as an object wherever they are the text of one."""
    if value in _NOTHING:
        return {}
    try:
        parsed = _parsed(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, dict) else value


def _without_nulls(value: Any) -> Any:
    """Leave out what is null: in Arrow every object has the keys of all others of its column."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value if inner is not None]
    return value


def calls_as_text(calls: str) -> str:
    """Return a message's tool calls, JSON in OpenAI's form, as a reference has them: names and arguments."""
    of_each = [call["function"] for call in json.loads(calls)]
    return json.dumps(
        [{"name": call["name"], "arguments": call.get("arguments", {})} for call in of_each],
        ensure_ascii=False,
    )
