"""Answers that are JSON: reading them, and how much of a reference's content they have.

The F1 is that of information extraction: fields are pairs of a path and a value, micro-averaged over one
answer's. It is not ANLS or a tree distance, so a value that is nearly right is wrong.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn

_FENCE = re.compile(r"\A```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```\Z", re.DOTALL)

_BETWEEN = re.compile(r"(?:[\s,;]|<\|[^|<>]*\|>)*")


def parse(text: str) -> Any:
    """Read a text that is JSON, or one code fence around it; raises ValueError where it is neither.

    NaN and Infinity, which Python's reader takes, are no JSON.
    """
    text = text.strip()
    fenced = _FENCE.match(text)
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse_all(text: str) -> list[Any]:
    """Read one or several JSON values in a row, between them white space, a comma or a semicolon.

    Raises ValueError where it is none, or has anything else in it but control tokens such as <|eom_id|>.
    """
    with suppress(ValueError):
        return [parse(text)]
    values, place = [], 0
    decoder = json.JSONDecoder(parse_constant=_refuse)
    while (place := _BETWEEN.match(text, place).end()) < len(text):  # type: ignore[union-attr]
        try:
            value, place = decoder.raw_decode(text, place)
        except RecursionError:
            raise ValueError("nested too deep") from None
        values.append(value)
    if not values:
        raise ValueError("no JSON")
    return values


def valid(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return 1 for a prediction that is JSON, or a code fence around JSON, else 0."""
    return [float(_is_json(prediction)) for prediction in predictions]


def match(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return the F1, 0 to 1, of each prediction's fields against its best reference's.

    A field is a path of keys with a value that is no object and no list, or that is empty. Items of a list
    have one path, whatever their order. Numbers are equal by value, texts but for white space around them.
    What is no JSON scores 0.
    """
    return [
        max(_f1(reference, prediction) for reference in of_one)
        for of_one, prediction in zip(references, predictions, strict=True)
    ]


def canonical(value: Any) -> str:
    """Write a value so that equal values have equal texts: 1 and 1.0, keys in any order."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def _f1(reference: str, prediction: str) -> float:
    try:
        wanted, found = (Counter(_fields(parse(text))) for text in (reference, prediction))
    except (ValueError, RecursionError):
        return 0.0
    return 2 * (wanted & found).total() / (wanted.total() + found.total())


def _fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _fields(inner, (*path, f".{key}"))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _fields(inner, (*path, "[]"))
    else:
        yield path, canonical(value.strip() if isinstance(value, str) else value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    # 1e400 is read as infinity, which is no integer.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_json(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
