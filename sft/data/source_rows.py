"""What reading a source gives: the usable rows, and an account of everything that is not among them."""

from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

SHOWN = 200  # characters of a reject


class Reason(StrEnum):
    """Why an entry is not among the rows. Each reader lists its own, with the words that people read."""


@dataclass
class Reject:
    """One raw entry that could not be understood; `row` counts from 0 within `source`.

    `text` is the start of the entry, `detail` what of the reason varies from one to the next. `rows` is how
    many rows are lost: those of a whole file, where it is unreadable.
    """

    source: str
    row: int
    reason: Reason
    text: str
    detail: str = ""
    rows: int = 1

    def __post_init__(self) -> None:
        self.text = self.text[:SHOWN]

    def why(self) -> str:
        """Return the reason with its detail."""
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


@dataclass
class SourceRows:
    """A source's rows (`sft.core.row_schema.SCHEMA`, plus kept columns), rejects and skips.

    `skipped` counts entries left out by design, by reason; they are no faults, so not rejects. `layouts` are
    the names of the layouts that its files have, and `used` the columns that conversations are made from;
    `dropped` counts by column the rows that have a value which is neither used nor kept.
    """

    table: pa.Table
    rejects: list[Reject] = field(default_factory=list)
    skipped: dict[Reason, int] = field(default_factory=dict)
    layouts: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
