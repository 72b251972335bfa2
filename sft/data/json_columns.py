"""The type that the values of a column of parsed JSON have in common, and arrays of that type."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from sft.data import json_rows
from sft.data.columns import READ
from sft.data.message_columns import CONTENT_KEYS


@dataclass
class Column:
    """What the values of one column have in common.

    A column's type is the one that most of its values have, widened to whatever merges with it. Of messages
    what `message_columns` reads is kept, of their other fields whether there is anything; so of other nested
    columns, as binary.
    """

    name: str
    kind: pa.DataType = field(default_factory=pa.null)
    # Facts that decide how values are kept. Each rests on all rows, and changes one way only.
    as_json: bool = False
    nested: bool = False
    texts_only: bool = True
    in_parts: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    # Where the values have no type in common: how often there is each.
    kinds: Counter[pa.DataType] | None = None
    is_counted: bool = False
    # Where integers meet doubles, all of them must be doubles too: a second pass tries.
    is_widened: bool = False
    is_tried: bool = False
    # Of this pass: whether there was a value, and whether rows before it must be looked at again.
    seen: bool = False
    is_stale: bool = False

    def look(self, values: list[Any]) -> tuple[pa.Array, dict[int, str]] | None:
        """Learn from a block's values; return them as `array` does, None where another pass must do it.

        The array's type is that of the block alone.
        """
        facts = self._facts()
        values = self._kept(values, learn=True)
        if facts != self._facts() and self.seen:
            self.forget()
        had, self.seen = self.seen, self.seen or any(value is not None for value in values)
        if self.is_stale:
            return None
        if self.kinds is None:
            if (array := self._inferred(values)) is not None:
                return array, {}
            self.kinds, self.is_stale = Counter(), had
            if had:
                return None
        if self.is_counted:
            return self._odd(values)
        self.kinds.update(kind for kind in map(_kind, values) if kind is not None)
        return None

    def forget(self) -> None:
        """Begin again, for values were kept otherwise than they must be."""
        self.kind, self.kinds, self.is_widened, self.is_stale = pa.null(), None, False, True

    def end(self) -> bool:
        """End a pass over all rows; tell whether what they have in common is known."""
        settled = not self.is_stale and self.is_widened == self.is_tried
        if self.kinds is not None:
            settled = not self.is_stale
            if settled and not self.is_counted:
                self.kind, self.is_counted = pa.null(), True
                for kind, _ in self.kinds.most_common():
                    self.kind = _merged(self.kind, kind) or self.kind
        elif self.is_stale:
            self.kind = pa.null()
        self.is_tried = self.is_widened
        self.seen = self.is_stale = False
        return settled

    def _inferred(self, values: list[Any]) -> pa.Array | None:
        """Return the values as an array and widen the type to theirs; None where they have none in common."""
        try:
            array = pa.array(values, self.kind if self.is_tried else None)
        except (pa.ArrowException, OverflowError):
            return None
        merged = _merged(self.kind, array.type)
        if merged is None:
            return None
        self.is_widened = self.is_widened or _may_widen(self.kind, merged) or _may_widen(array.type, merged)
        self.kind = merged
        return array

    def array(self, values: list[Any]) -> tuple[pa.Array, dict[int, str]]:
        """Return values in the column's type, and by position the text of what does not fit: null there."""
        values = self._kept(values, learn=False)
        return self._odd(values) if self.is_counted else (pa.array(values, self.kind), {})

    def _facts(self) -> tuple[Any, ...]:
        return self.nested, self.texts_only, len(self.in_parts)

    def _kept(self, values: list[Any], learn: bool) -> list[Any]:
        """Return of the values what is read of them."""
        known = self.name.lower()
        if self.as_json:
            return [json_rows.as_json(value) for value in values]
        if known in READ:
            values = json_rows.messages(values, self.others)
            if learn:
                for one in json_rows.each_message(values):
                    self.in_parts |= {key for key in CONTENT_KEYS if isinstance(one.get(key), list)}
            for key in self.in_parts:
                json_rows.make_parts(values, key)
            return values
        if learn:
            self.nested = self.nested or any(isinstance(value, list | dict) for value in values)
            if known == "choices" and self.texts_only:
                self.texts_only = all(value is None or json_rows.is_texts(value) for value in values)
        if self.nested and not (known == "choices" and self.texts_only):
            return [json_rows.outline(value) for value in values]
        return values

    def _odd(self, values: list[Any]) -> tuple[pa.Array, dict[int, str]]:
        # Where texts are missing, pandas writes NaN.
        missing = [pa.types.is_string(self.kind) and _is_nan(value) for value in values]
        odd = {
            at: str(json_rows.as_json(value))
            for at, value in enumerate(values)
            if not missing[at] and not self._fits(value)
        }
        left = [None if at in odd or missing[at] else value for at, value in enumerate(values)]
        return pa.array(left, self.kind), odd

    def _fits(self, value: Any) -> bool:
        """Tell whether a value has the column's type, within its limits: an integer may be too large."""
        if _merged(self.kind, _kind(value)) != self.kind:
            return False
        try:
            pa.array([value], self.kind)
        except (pa.ArrowException, OverflowError):
            return False
        return True


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _kind(value: Any) -> pa.DataType | None:
    try:
        return pa.infer_type([value])
    except (pa.ArrowException, OverflowError):
        return None


def _merged(one: pa.DataType, other: pa.DataType | None) -> pa.DataType | None:
    if other is None:
        return None
    if one == other:
        return one
    try:
        schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def _may_widen(kind: pa.DataType, merged: pa.DataType) -> bool:
    """Tell whether integers of a type may be doubles in the merged one; some fields beside them may too."""
    return kind != merged and "int64" in str(kind) and "double" in str(merged)
