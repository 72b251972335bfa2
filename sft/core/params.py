"""Loading params: YAML 1.2, checked and turned into one stage's own model of its params.

This module knows no stage's schema: every stage depends on it, and a schema here would re-run them all.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sft.core.errors import ParamError, UserError
from sft.core.param_errors import fault, sentence
from sft.core.param_types import ByName, Count, Integer, Number, Share, Text

__all__ = [
    "ByName",
    "Count",
    "Integer",
    "Number",
    "Params",
    "Share",
    "Text",
    "leaves",
    "load",
    "mapping",
    "parse",
    "parse_value",
    "section",
]


class Params(BaseModel):
    """A part of params. Every field must be there and fit its type; other keys are other stages' params.

    Numbers are declared as Integer, Number, Count or Share: true is none of them, and 2e-4 in quotes is one.
    Checks of a value's range, or of several fields, are validators that raise ParamError.
    """

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Name a missing field, and the key that may be meant to be it."""
        if isinstance(values, dict):
            for name, field in cls.model_fields.items():
                if field.is_required() and name not in values:
                    others = [str(key) for key in values if key not in cls.model_fields]
                    raise fault(f"missing.{_suspect(name, others)}", name)
        return values


S = TypeVar("S", bound=Params)


def load(path: Path | str) -> dict[str, Any]:
    """Read a params file; raise UserError where it is not there, or not a mapping in YAML."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file. Run from the repository's root.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}. Save it as UTF-8.") from error
    return parse(text, path)


def parse(text: str, path: Path | str) -> dict[str, Any]:
    """Read params as YAML 1.2 (PyYAML would read 2e-4 as a string); `path` is for errors.

    Raises UserError for what is no YAML, or no mapping at the top.
    """
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


def section(values: dict[str, Any], name: str, schema: type[S]) -> S:
    """Build `schema` from the part of params called `name` ("data", "train", ...).

    Keys that `schema` does not have are left to the stages that own them, but for those that look like a
    misspelt field, which is then missing. Raises ParamError for the first fault.
    """
    part = _part(values, name)
    try:
        return schema.model_validate(part)
    except ValidationError as error:
        raise ParamError(sentence(error, part, name)) from None


def mapping(values: dict[str, Any], name: str, schema: type[S]) -> dict[str, S]:
    """Build a `schema` from each entry of the part of params called `name`, by the entries' names.

    Raises ParamError for the first fault, one of them a key called `size` or `nfiles` at any depth.
    """
    return parse_value(_part(values, name), ByName[schema], name)  # type: ignore[valid-type]


def parse_value(value: Any, kind: Any, where: str) -> Any:
    """Turn one value into `kind`, such as Count; raise ParamError naming the param `where` if it is none."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise ParamError(sentence(error, value, where)) from None


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _part(values: dict[str, Any], name: str) -> dict[str, Any]:
    part = values.get(name)
    if not isinstance(part, dict):
        raise ParamError(f"{name}: missing, or not a mapping.")
    return part


def _suspect(name: str, others: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, others, n=1, cutoff=0.6)
    return f" Is {close[0]!r} meant to be {name!r}?" if close else ""
