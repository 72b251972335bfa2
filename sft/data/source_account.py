"""What reading gives beside rows: rejects, what is left out, and what of the source is read."""

from collections import Counter
from dataclasses import dataclass, field

from sft.data import rejects, sources
from sft.data.source_rows import Reason, Reject, SourceRows


@dataclass
class SourceAccount:
    """An account of a part of a source, or of all of it; the fields are as in `sft.data.sources.Loaded`."""

    rejects: list[Reject] = field(default_factory=list)
    skipped: Counter[Reason] = field(default_factory=Counter)
    layouts: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    ends_on_user: int = 0
    no_user: int = 0

    @classmethod
    def of(cls, rows: SourceRows) -> "SourceAccount":
        """Return the account of rows that are at hand."""
        return cls(
            rows.rejects,
            Counter(rows.skipped),
            rows.layouts,
            rows.used,
            Counter(rows.dropped),
            sources.ends_on_user(rows.table["messages"]),
            sources.no_user(rows.table["messages"]),
        )

    def add(self, other: "SourceAccount") -> None:
        """Add that of rows behind these."""
        self.rejects += other.rejects
        self.skipped.update(other.skipped)
        self.layouts = list(dict.fromkeys([*self.layouts, *other.layouts]))
        self.used = list(dict.fromkeys([*self.used, *other.used]))
        self.dropped.update(other.dropped)
        self.ends_on_user += other.ends_on_user
        self.no_user += other.no_user

    @property
    def lost(self) -> int:
        """Count the rows that are lost as rejects."""
        return rejects.count(self.rejects)
