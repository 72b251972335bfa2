"""Rows that the chat template refuses: by reason, with the first of each, and how many are too many."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

from sft.core.errors import ParamError

EXAMPLES = 3  # kept of each reason
REASONS = 20  # counted apart: a template may say something else of every row
OTHER = "other reasons"


class Refusal(NamedTuple):
    """Why the template refuses a row: a reason to count by, what it says of this row, and what to do."""

    reason: str
    detail: str
    advice: str


class Example(TypedDict):
    """A refused row, for the record."""

    row: str
    detail: str


@dataclass
class Refusals:
    """Refused rows: how many by reason, the first of each, and advice by reason."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    advice: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, refusal: Refusal) -> None:
        """Count a row, by its id."""
        reason = refusal.reason if refusal.reason in self.counts or len(self.counts) < REASONS else OTHER
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.advice.setdefault(reason, refusal.advice)
        examples = self.examples.setdefault(reason, [])
        if len(examples) < EXAMPLES and all(example["row"] != row for example in examples):
            examples.append({"row": row, "detail": refusal.detail})

    def total(self) -> int:
        """Return how many rows were refused, again where they were read again."""
        return sum(self.counts.values())

    def ranked(self) -> list[str]:
        """Return the reasons, the most frequent first."""
        return sorted(self.counts, key=lambda reason: -self.counts[reason])

    def lines(self) -> Iterator[str]:
        """Yield a line for each reason, and one for its first row."""
        for reason in self.ranked():
            first = self.examples[reason][0]
            yield f"{self.counts[reason]:,} rows: {reason}"
            said = "" if first["detail"] == reason else f": {first['detail']}"
            yield f"    the first is row {first['row']}{said}"

    def advised(self) -> str:
        """Return what to do about the most frequent reason."""
        return self.advice[self.ranked()[0]]


def check(refusals: Refusals, rows_read: int, limit: float) -> None:
    """Raise ParamError if the template refuses a larger share of the rows read than `limit`."""
    refused = refusals.total()
    if refused > limit * rows_read:
        lines = "\n".join(f"  {line}" for line in refusals.lines())
        raise ParamError(
            f"train.max_refused: the chat template refuses {refused:,} of the {rows_read:,} rows read "
            f"({refused / rows_read:.2%}), more than {limit:.2%}.\n{lines}\n"
            f"{refusals.advised()} Or raise train.max_refused to train without them."
        )
