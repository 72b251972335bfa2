"""What a rendering of a chat template may take: seconds, what it makes, what one operation goes through.

Nothing interrupts a single call into C, so what an operation is applied to is measured before it: to its last
text, what is held twice counted twice, for that is how Python compares, sorts, hashes and prints. How filters
and methods count is in `sft.modeling.template_costs`.
"""

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
_BITS = 4_096
OBJECT = 64  # bytes of a short text or list


_SIMPLE = (type(None), bool, float)


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
        budget.spend(OBJECT)
        kept.append(value)
    return kept


def check_bits(*numbers: Any) -> None:
    """Raise TemplateLimit for integers that arithmetic takes long with."""
    if any(isinstance(number, int) and number.bit_length() > _BITS for number in numbers):
        raise TemplateLimit("computes numbers of too many digits")


def check_power(base: Any, exponent: Any) -> None:
    """Raise TemplateLimit where a power has too many digits."""
    check_bits(base, exponent)
    if (base.bit_length() if isinstance(base, int) else 1) * abs(exponent) > _BITS:
        raise TemplateLimit("computes numbers of too many digits")
