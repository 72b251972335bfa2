"""What a rendering of a chat template may take: seconds, what it makes, what one operation goes through.

Nothing interrupts a single call into C, so what an operation is applied to is measured before it: to its last
text, what is held twice counted twice, for that is how Python compares, sorts, hashes and prints. One rule
holds for all operations; those named below cost less, or more, than going once through what they are given.
"""

import re
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jinja2.exceptions import TemplateRuntimeError
from jinja2.utils import Namespace

from sft.modeling.compat import namespace_values

SECONDS = 10.0  # of a rendering; those of real templates and rows take a thousandth of one
# Characters (an entry of a list counts as 8) that a rendering makes in sum, and that one operation goes
# through. Templates make each text some five times.
WORK = 256 << 20
_LARGE = 100_000  # an argument, such as a width; as Jinja's own limit on range
_LONG = 1 << 20  # a text or list that only what takes time in proportion is applied to
_BITS = 4_096
_OBJECT = 64  # bytes of a short text or list
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
_SIMPLE = (type(None), bool, float)
_WIDE = re.compile(r"\d{6}|\*")


class TemplateLimit(TemplateRuntimeError):
    """A rendering takes longer, or makes more, than any real one does."""


class Budget:
    """What is left of a rendering's seconds and characters."""

    def __init__(self) -> None:
        self.left, self.end = WORK, time.monotonic() + SECONDS

    def make(self, size: int) -> None:
        """Count what is made."""
        self.left -= size
        if self.left < 0:
            raise TemplateLimit(f"makes more than {WORK >> 20} MiB of text")

    def spend(self, size: int) -> None:
        """Count what is made, and look at the clock."""
        self.make(size)
        self.read(0)

    def read(self, size: int) -> None:
        """Look at the clock, and at what one operation goes through."""
        if size > WORK:
            raise TemplateLimit(f"goes through more than {WORK >> 20} MiB at once")
        if time.monotonic() > self.end:
            raise TemplateLimit(f"takes more than {SECONDS:.0f} seconds")


def size_of(value: Any) -> int:
    """Return a text's characters, or 8 for each entry, whatever it holds."""
    if isinstance(value, str):
        return len(value)
    return 1 if not isinstance(value, Collection) else 8 * len(value) + 1


def weight(value: Any) -> int:
    """Return about how many characters a value has written out, what it holds twice counted twice."""
    return len(value) if isinstance(value, str) else _tree(value, {}, 0)


def _tree(value: Any, known: dict[int, int], depth: int) -> int:
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, _SIMPLE):
        return 8
    if isinstance(value, int):
        if value.bit_length() > _BITS:
            raise TemplateLimit("computes numbers of too many digits")
        return 8
    if isinstance(value, Namespace):  # printed with all that it holds
        value = namespace_values(value)
    if isinstance(value, range) or not isinstance(value, Collection):
        return 8
    if id(value) not in known:
        if depth > 200:
            raise TemplateLimit("nests lists too deeply")
        inner = [*value, *value.values()] if isinstance(value, Mapping) else value
        size = 2 + sum(_tree(one, known, depth + 1) for one in inner)
        if size > WORK:
            raise TemplateLimit(f"makes or compares more than {WORK >> 20} MiB of text")
        known[id(value)] = size
    return known[id(value)]


def taken(budget: Budget, values: Iterator[Any]) -> list[Any]:
    """Return what an iterator gives, as a list: what C would go through without a look at the clock."""
    kept = []
    for value in values:
        budget.spend(_OBJECT)
        kept.append(value)
    return kept


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
        budget.read(_OBJECT * pieces + (len(text) * widest if name == "rsplit" else 0))
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


def check_bits(*numbers: Any) -> None:
    """Raise TemplateLimit for integers that arithmetic takes long with."""
    if any(isinstance(number, int) and number.bit_length() > _BITS for number in numbers):
        raise TemplateLimit("computes numbers of too many digits")


def check_power(base: Any, exponent: Any) -> None:
    """Raise TemplateLimit where a power has too many digits."""
    check_bits(base, exponent)
    if (base.bit_length() if isinstance(base, int) else 1) * abs(exponent) > _BITS:
        raise TemplateLimit("computes numbers of too many digits")


def _check_join(budget: Budget, between: Any, values: Any) -> None:
    count = len(values) if isinstance(values, Collection) else 1
    budget.spend(weight(values) + weight(between) * count)


def _check_entries(budget: Budget, name: str, values: Any, given: list[Any]) -> None:
    count = len(values) if isinstance(values, Collection) else 1
    # An attribute's name may have as many parts as it has characters.
    budget.read(count * max((len(one) for one in given if isinstance(one, str)), default=1))
    if isinstance(values, str):
        budget.spend(_OBJECT * count)
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
