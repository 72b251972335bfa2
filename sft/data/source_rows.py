"""What reading a source gives: the usable rows, and an account of everything that is not among them."""

from dataclasses import dataclass, field

import pyarrow as pa


@dataclass
class Reject:
    """One raw entry that could not be understood; `row` counts from 0 within `source`."""

    source: str
    row: int
    reason: str
    text: str

    def __post_init__(self) -> None:
        self.text = self.text[:200]


@dataclass
class Read:
    """A source's rows (`sft.core.schema.SCHEMA`, plus kept columns), rejects and skips.

    `skipped` counts entries left out by design, by reason; they are no faults, so not rejects.
    """

    table: pa.Table
    rejects: list[Reject] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
