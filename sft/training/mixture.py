"""How often training reads rows of each kind (`data.weights`), and in which order the kinds take turns."""

import difflib
import heapq
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from sft.core.errors import ParamError
from sft.core.param_errors import wanted
from sft.core.param_types import all_hashed
from sft.core.params import Number, Params
from sft.training.stored_rows import StoredRows

_KIND = re.compile(r"[A-Za-z0-9_-]+")


def _not_negative(number: float) -> float:
    if number < 0:
        raise wanted("a number from 0 on")
    return number


def _kind(text: str) -> str:
    if not _KIND.fullmatch(text):
        raise wanted("a name of letters, digits, _ and -")
    return text


Weight = Annotated[Number, AfterValidator(_not_negative), WithJsonSchema({"type": "number", "minimum": 0})]
Kind = Annotated[
    str, AfterValidator(_kind), WithJsonSchema({"type": "string", "pattern": f"^{_KIND.pattern}$"})
]
Weights = Literal["proportional"] | Annotated[dict[Kind, Weight], BeforeValidator(all_hashed)]


class MixtureParams(Params):
    """`data`: the weight of each kind of rows, or `proportional` where rows are read as the mix has them."""

    weights: Weights


@dataclass
class Mix:
    """The mix's rows, how many there are of each kind and would be in the largest mix, and the held-out rows.

    `read` has the weight of each kind that is read, none where rows are read as the mix has them. `held_out`
    has rows of these kinds, or of all kinds where none of these is held out; `validated` their weights.
    """

    rows: StoredRows
    in_mix: Counter[str]
    available: dict[str, int]
    held_out: pa.Table
    weights: Weights
    read: dict[str, float]
    validated: dict[str, float]


def weights_of_kinds(weights: Weights, in_mix: Mapping[str, int], known: list[str]) -> dict[str, float]:
    """Return the weight of each kind that is read; of none where the mix is read as it is (`proportional`).

    `in_mix` counts the mix's rows by kind; `known` are the kinds of all sources, which need not all have
    rows in the mix. Raises ParamError for names above 0 that are none of them, for a kind in the mix without
    a weight, and where no row would be read.
    """
    if not isinstance(weights, dict):
        return {}
    without = [kind for kind in in_mix if kind not in weights]
    unknown = [kind for kind, weight in weights.items() if weight and kind not in known]
    if unknown:
        add = f" Give yours one: -S +data.weights.{without[0]}=1." if without else ""
        raise ParamError(
            f"data.weights: no source of data.base and data.extra has rows of the kinds "
            f"{', '.join(kind + _near(kind, known) for kind in unknown)}. They have: {', '.join(known)}. "
            f"Delete the lines of kinds that no source has, or set data.weights to proportional.{add}"
        )
    if without:
        raise ParamError(
            f"data.weights: the mix has rows of kinds without a weight: {_counted(without, in_mix)}. "
            f"Give each one (0 leaves it out; -S +data.weights.{without[0]}=1), or set data.weights to "
            "proportional."
        )
    read = {kind: weight for kind, weight in weights.items() if weight and kind in in_mix}
    if not read:
        zero = "" if any(weights.values()) else " All weights are 0."
        raise ParamError(
            f"data.weights: no row of the mix has a weight above 0.{zero} "
            f"The mix has: {_counted(list(in_mix), in_mix)}."
        )
    return read


def _near(kind: str, known: list[str]) -> str:
    close = difflib.get_close_matches(kind, known, n=1, cutoff=0.6)
    return f" (is {close[0]} meant?)" if close else ""


def _counted(kinds: list[str], rows: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} ({rows[kind]:,} rows)" for kind in kinds)


class Turns:
    """Whose row is next: row j (from 0) of a kind stands at (j + 0.5) / weight, ties go by the name.

    So however far one reads, each kind's number of rows is its share, to within a row or so.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        self._next = [(0.5 / weight, kind, 0) for kind, weight in weights.items()]
        heapq.heapify(self._next)

    def take(self) -> str | None:
        """Return the kind whose turn it is, None where no kind is left."""
        if not self._next:
            return None
        _, kind, row = self._next[0]
        heapq.heapreplace(self._next, ((row + 1.5) / self._weights[kind], kind, row + 1))
        return kind

    def leave_out(self, kind: str) -> None:
        """Go on without this kind, which has no more rows."""
        self._next = [entry for entry in self._next if entry[1] != kind]
        heapq.heapify(self._next)

    def ahead(self, rows: int) -> list[str]:
        """Return whose turns the next ones are, without taking them."""
        copy = Turns(self._weights)
        copy._next = list(self._next)
        return [kind for _ in range(rows) if (kind := copy.take()) is not None]
