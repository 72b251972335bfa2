"""Loading params.yaml: YAML 1.2, checked and coerced into one stage's own dataclass.

This module knows no stage's schema: every stage depends on it, and a schema here would re-run them all.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sft.core.errors import ParamError, UserError

T = TypeVar("T")
_COUNT = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?)([km]?)", re.IGNORECASE)


class Count(int):
    """A positive whole number that may be written 300000, 300_000, 300k, 1.5M or 3e5."""


class Share(float):
    """A number from 0 to 1."""


def load(path: Path | str = "params.yaml") -> dict[str, Any]:
    """Read a params file; raise UserError where it is not there, or not a mapping in YAML."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file. Run from the repository's root.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}. Save it as UTF-8.") from error
    return parse(text, path)


def parse(text: str, path: Path | str) -> dict[str, Any]:
    """Read params as YAML 1.2, as DVC does (PyYAML would read 2e-4 as a string); `path` is for errors."""
    try:
        values = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of params at the top, found {type(values).__name__}.")
    return values


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all leaves of nested mappings."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def section(values: dict[str, Any], name: str, schema: type[T]) -> T:
    """Build the dataclass `schema` from the part of params called `name` ("data", "train", ...).

    Every field of `schema` must be there and fit its type. Keys that `schema` does not have are left
    to the stages that own them, but for those that look like a misspelt field, which is then missing.
    Raises UserError naming the param.
    """
    part = values.get(name)
    if not isinstance(part, dict):
        raise ParamError(f"{name}: missing, or not a mapping.")
    return _build(schema, part, name)


def _build(schema: type[T], part: dict[str, Any], where: str) -> T:
    hints = typing.get_type_hints(schema)
    built = {}
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        if field.name not in part:
            raise ParamError(f"{where}.{field.name}: missing.{_suspects(field.name, part, hints)}")
        built[field.name] = coerce(part[field.name], hints[field.name], f"{where}.{field.name}")
    return schema(**built)


def _suspects(name: str, part: dict[str, Any], known: dict[str, Any]) -> str:
    import difflib

    close = difflib.get_close_matches(name, [str(key) for key in part if key not in known], n=1, cutoff=0.6)
    return f" Is {close[0]!r} meant to be {name!r}?" if close else ""


def coerce(value: Any, kind: Any, where: str) -> Any:
    """Coerce one value to `kind`: a scalar type, Count, Share, Literal, list, a dataclass,
    X | None, or Literal | X.

    Raises UserError naming the param `where`, the value, and what is wanted.
    """
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise _wrong(where, value, "one of " + ", ".join(map(str, choices)))
        return value
    if origin in (typing.Union, types.UnionType):
        words, *others = sorted(
            typing.get_args(kind), key=lambda k: typing.get_origin(k) is not typing.Literal
        )
        if typing.get_origin(words) is typing.Literal:
            try:
                return value if value in typing.get_args(words) else coerce(value, others[0], where)
            except UserError as error:
                named = ", ".join(map(str, typing.get_args(words)))
                raise UserError(f"{str(error).removesuffix('.')}, nor {named}.") from None
        if value is None or value == "":
            return None
        (inner,) = (argument for argument in typing.get_args(kind) if argument is not type(None))
        return coerce(value, inner, where)
    if origin is list:
        if not isinstance(value, list):
            raise _wrong(where, value, "a list")
        return [
            coerce(item, typing.get_args(kind)[0], f"{where}[{number}]") for number, item in enumerate(value)
        ]
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise _wrong(where, value, "a mapping")
        return _build(typing.cast(type, kind), value, where)
    if kind is Count:
        return _count(value, where)
    if kind is bool:
        if not isinstance(value, bool):
            raise _wrong(where, value, "true or false")
        return value
    if kind is str:
        if not isinstance(value, str) or not value:
            raise _wrong(where, value, "a text")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _wrong(where, value, "a number")
    if kind is int and isinstance(value, int):
        return value  # through float a long seed would lose digits
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _wrong(where, value, "a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise _wrong(where, value, "a finite number")
    if kind is int:
        if number != int(number):
            raise _wrong(where, value, "a whole number")
        return int(number)
    if kind is Share and not 0 <= number <= 1:
        raise _wrong(where, value, "a number from 0 to 1")
    return kind(number)


def _count(value: Any, where: str) -> int:
    wanted = "a positive whole number such as 100000, 100_000, 100k or 1.5M"
    if isinstance(value, bool):
        raise _wrong(where, value, wanted)
    number: float | Decimal
    if isinstance(value, str):
        match = _COUNT.fullmatch(value.strip())
        if match:
            # In decimal, because 2.01 * 1_000_000 is no whole number in binary.
            factor = {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]
            number = Decimal(match[1].replace("_", "")) * factor
        else:
            try:
                number = float(value)
            except ValueError:
                raise _wrong(where, value, wanted) from None
    elif isinstance(value, int | float):
        number = value
    else:
        raise _wrong(where, value, wanted)
    if not 0 < number < float("inf") or number != int(number):
        raise _wrong(where, value, wanted)
    return int(number)


def _wrong(where: str, value: Any, wanted: str) -> UserError:
    return ParamError(f"{where}: {value!r} is not {wanted}.")
