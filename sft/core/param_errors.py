"""Wording what pydantic finds wrong: one sentence that names the param, its value and what is wanted."""

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

_WANTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a mapping",
    "string_too_short": "a text",
    "string_type": "a text",
}


def wanted(what: str) -> PydanticCustomError:
    """Make the error of a value that is not `what`; a validator raises it."""
    return PydanticCustomError("wanted", "{what}", {"what": what})


def fault(message: str, *path: Any) -> PydanticCustomError:
    """Make the error of something inside the value, at `path`, in the words of `message`."""
    return PydanticCustomError("fault", "{message}", {"message": message, "path": path})


def sentence(error: ValidationError, value: Any, where: str) -> str:
    """Word the first fault found in `value`, which is the param called `where`.

    A union reports one error for each of its types: those that come closest (an item of a list rather than
    the list) make one sentence.
    """
    found = [(_path(each, value), each) for each in error.errors(include_url=False)]
    first = found[0][0]
    found = [(path, each) for path, each in found if path[: len(first)] == first[: len(path)]]
    deepest = max((path for path, _ in found), key=len)
    errors = [each for path, each in found if path == deepest]
    name = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in deepest)
    for each in errors:
        if each["type"] == "fault":
            return f"{name}: {each['msg']}"
    words = [word for each in errors for word in _choices(each)]
    kinds = [_WANTED.get(each["type"], each["msg"]) for each in errors if not _choices(each)]
    if not kinds:
        words[0] = f"one of {words[0]}"
    choices = [", ".join(words)] if words else []
    # pydantic has the converted value; of a key that is at fault, it has the key.
    written = errors[0]["input"] if "[key]" in errors[0]["loc"] else _at(value, deepest, errors[0]["input"])
    return f"{name}: {written!r} is not {', nor '.join([*kinds, *choices])}."


def _at(value: Any, path: tuple[Any, ...], otherwise: Any) -> Any:
    """Return what is written at `path`, `otherwise` where nothing is."""
    try:
        for part in path:
            value = value[part]
    except (KeyError, IndexError, TypeError):
        return otherwise
    return value


def _choices(error: ErrorDetails) -> list[str]:
    """Return the words that a Literal accepts."""
    return re.findall(r"'([^']*)'", error["ctx"]["expected"]) if error["type"] == "literal_error" else []


def _path(error: ErrorDetails, value: Any) -> tuple[Any, ...]:
    """Return where in `value` the error is; what pydantic adds for a union's types is no key and left out."""
    path = []
    for part in error["loc"]:
        if part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int):
            path.append(part)
            value = value[part]
    return (*path, *error.get("ctx", {}).get("path", ()))
