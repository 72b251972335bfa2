"""The types of params: numbers as people write them, texts, and mappings keyed by names."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from sft.core.param_errors import fault, wanted

T = TypeVar("T")
_COUNT = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?)([km]?)", re.IGNORECASE)
_A_COUNT = "a positive whole number such as 100000, 100_000, 100k or 1.5M"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_UNHASHED = ("size", "nfiles")


def _numeric(value: Any) -> int | float:
    """Accept a number, and a text that is one; an integer stays one, or a long seed would lose digits."""
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wanted("a number")
    return value


def _share(number: float) -> float:
    if not 0 <= number <= 1:
        raise wanted("a number from 0 to 1")
    return number


def _count(value: Any) -> int:
    number: int | float | Decimal
    if isinstance(value, str) and (match := _COUNT.fullmatch(value.strip())):
        # In decimal, because 2.01 * 1_000_000 is no whole number in binary.
        factor = {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]
        number = Decimal(match[1].replace("_", "")) * factor
    else:
        try:
            number = _numeric(value)
        except ValueError:
            raise wanted(_A_COUNT) from None
    if not 0 < number < float("inf") or number != int(number):
        raise wanted(_A_COUNT)
    return int(number)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise wanted("a short name of small letters, digits and _, beginning with a letter")
    return text


def all_hashed(values: Any) -> Any:
    """Refuse a key that a cache of runs leaves out of what it hashes, so that a change would go unnoticed."""
    for path in _paths(values):
        if path[-1] in _UNHASHED:
            raise fault(
                f"a key in here cannot be called {path[-1]}: the run cache would not see its value change. "
                "Give it another name.",
                *path,
            )
    return values


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every key and item inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


# A whole number.
Integer = Annotated[int, Field(strict=False), BeforeValidator(_numeric)]

# A finite number.
Number = Annotated[float, Field(strict=False, allow_inf_nan=False), BeforeValidator(_numeric)]

# A number from 0 to 1.
Share = Annotated[
    Number, AfterValidator(_share), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})
]

# A positive whole number that may be written 300000, 300_000, 300k, 1.5M or 3e5.
Count = Annotated[
    int,
    BeforeValidator(_count),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\d+(_\d+)*(\.\d+)?[kKmM]?$"},
            ]
        }
    ),
]

# A text that is not empty.
Text = Annotated[str, Field(min_length=1)]

# A short name.
Name = Annotated[
    str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})
]

# Values by short names. A pipeline may list such a mapping as one param, so no key in it, however deep,
# may be one that a cache of runs leaves out of its hashes.
ByName = Annotated[dict[Name, T], BeforeValidator(all_hashed)]
