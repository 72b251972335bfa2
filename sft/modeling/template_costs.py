"""What the filters, tests and methods of chat templates cost, by name, of what they are applied to.

One rule holds for all of them; those named below cost less, or more, than going once through what they are
given.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sft.modeling.template_budget import OBJECT, Budget, TemplateLimit, taken, weight

_LARGE = 100_000  # an argument, such as a width; as Jinja's own limit on range
_LONG = 1 << 20  # a text or list that only what takes time in proportion is applied to
_ESCAPED = 6  # characters that one becomes: `&quot;`, `\u0000`


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Filters that look at no entry, or at one; tests of a value's type, or of a number.
_AT_ONCE = _names("attr count d default first items last length random safe")
TESTS_AT_ONCE = _names(
    "boolean callable defined escaped even false filter float integer iterable mapping none number odd sameas"
    " sequence string test true undefined"
)
# Filters over entries: those that only pass them on, and those that compare them.
_PASSING = _names("batch list map reject rejectattr reverse select selectattr slice")
_COMPARING = _names("dictsort groupby max min sort unique")
_OF_ENTRIES = _PASSING | _COMPARING | {"join", "sum", "xmlattr"}
# Methods that search a text from its front, in time that does not grow with what they look for.
_FORWARD = _names("count endswith find index partition removeprefix removesuffix replace split startswith")
# What texts of any length may be given to.
_LINEAR = (
    _FORWARD
    | _AT_ONCE
    | _OF_ENTRIES
    | _names(
        "abs capitalize casefold e escape float int isalnum isalpha isdigit isspace keys lower lstrip rfind"
        " rindex round rpartition rsplit rstrip splitlines string strip title tojson trim upper values"
    )
)
_WIDE = re.compile(r"\d{6}|\*")


def filter_input(budget: Budget, name: str, value: Any) -> Any:
    """Return what a filter is applied to, an iterator as a list."""
    return taken(budget, value) if name in _OF_ENTRIES and isinstance(value, Iterator) else value


def check_filter(budget: Budget, name: str, value: Any, given: list[Any]) -> None:
    """Raise TemplateLimit where a filter would go through, or make, too much."""
    if name in _AT_ONCE:
        return budget.read(0)
    _check_numbers(name, given)
    if name == "join":
        _check_join(budget, given[0] if given else "", value)
    elif name in _OF_ENTRIES:
        _check_entries(budget, name, value, given)
    elif isinstance(value, str):
        check_text(budget, name, value, given)
    elif name == "tojson":
        budget.spend(weight(value) * (1 + _widest(given) if given else 1))
    else:
        budget.spend(weight(value) * _widest(given))
        _check_long(name, value)


def check_call(budget: Budget, name: str, subject: Any, given: list[Any]) -> None:
    """Raise TemplateLimit where a method or function would go through, or make, too much."""
    if not isinstance(subject, Mapping):
        _check_numbers(name, given)
    if isinstance(subject, str):
        if name == "join":
            return _check_join(budget, subject, given[0] if given else ())
        return check_text(budget, name, subject, given)
    read = sum(map(weight, given))
    if isinstance(subject, list | tuple):
        read += weight(subject)
        _check_long(name, subject)
    elif name in ("dict", "fromkeys"):
        read += sum(map(_collisions, given))
    elif name in ("strftime_now", "strftime"):
        check_format(budget, next((one for one in given if isinstance(one, str)), ""), given)
    budget.read(read)


def check_text(budget: Budget, name: str, text: str, given: list[Any]) -> None:
    """Raise TemplateLimit where a method of a text, or a filter on it, makes or searches too much."""
    if name == "translate":
        raise TemplateLimit("calls translate")
    widest, first = _widest(given), next((one for one in given if isinstance(one, str)), None)
    budget.read(_ESCAPED * len(text) + sum(map(weight, given)))
    if name == "replace":
        budget.spend(len(text) + (text.count(first) if first is not None else len(text) + 1) * widest)
    elif name == "indent":
        budget.spend(len(text) + (text.count("\n") + 1) * widest)
    elif name in ("wordwrap", "expandtabs"):
        budget.spend(len(text) + (len(text) + 1) * widest)
    elif name in ("format", "format_map"):
        check_format(budget, text, given)
    elif name in ("split", "splitlines", "rsplit"):
        pieces = len(text) // 2 if first is None else text.count(first)
        budget.read(OBJECT * pieces + (len(text) * widest if name == "rsplit" else 0))
    elif name == "tojson":
        budget.spend(len(text) * (1 + widest if given else 1))
    elif name not in _FORWARD:
        budget.read(len(text) * widest)
        _check_long(name, text)


def check_format(budget: Budget, form: str, values: Any) -> None:
    """Raise TemplateLimit where a format has a width of a million, or repeats a text to too much."""
    if _WIDE.search(form):
        raise TemplateLimit("formats to a width of too many characters")
    longest = max(map(weight, values), default=0)
    budget.spend(
        len(form) + (form.count("%") + form.count("{")) * (longest + _LARGE if "{:{" in form else longest)
    )


def check_test(budget: Budget, name: str, value: Any, given: list[Any]) -> None:
    """Raise TemplateLimit where a test such as `eq` or `in` would compare too much."""
    budget.read(
        weight(value) + sum(0 if isinstance(one, Mapping) and name == "in" else weight(one) for one in given)
    )


def _check_join(budget: Budget, between: Any, values: Any) -> None:
    count = len(values) if isinstance(values, Collection) else 1
    budget.spend(weight(values) + weight(between) * count)


def _check_entries(budget: Budget, name: str, values: Any, given: list[Any]) -> None:
    count = len(values) if isinstance(values, Collection) else 1
    # An attribute's name may have as many parts as it has characters.
    budget.read(count * max((len(one) for one in given if isinstance(one, str)), default=1))
    if isinstance(values, str):
        budget.spend(OBJECT * count)
    elif name not in _PASSING:
        size = weight(values)
        budget.spend(size)  # texts are compared in small letters
        budget.read(size * count.bit_length() + (_collisions(values) if name == "unique" else 0))


def _collisions(values: Any) -> int:
    """Return how many comparisons a table of these keys takes at worst: hashes of numbers can be chosen."""
    if not isinstance(values, Collection) or all(isinstance(value, str) for value in values):
        return 0
    return len(values) ** 2


def _check_numbers(name: str, given: list[Any]) -> None:
    for value in given:
        if isinstance(value, int) and abs(value) > _LARGE and name not in ("safe_range", "round"):
            raise TemplateLimit(
                f"calls {name or 'a function'} with the number {min(abs(value), 10**300):.3g}"
            )


def _check_long(name: str, value: Any) -> None:
    if name not in _LINEAR and isinstance(value, str | list | tuple) and len(value) > _LONG:
        raise TemplateLimit(f"calls {name} with a text or list of {len(value):,}")


def _widest(given: list[Any]) -> int:
    texts = [len(value) for value in given if isinstance(value, str)]
    return max([1, *texts, *(abs(value) for value in given if isinstance(value, int))])
