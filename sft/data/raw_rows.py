"""A file's rows before their shape is looked at, in parts and in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft.core.errors import UserError
from sft.data.batch_sizes import batches
from sft.data.limits import NESTED, ROW, mib
from sft.data.source_rows import Reason, Reject

# What one batch has at most. Beyond the bytes it has fewer rows.
_ROWS, _BYTES = 16_384, 64 << 20


class FileReason(Reason):
    """Why a line of a file, or an entry of its array, is no row."""

    INVALID_JSON = "invalid JSON"
    TOO_MANY = f"more than {NESTED:,} lists and objects"
    TOO_LONG = f"longer than the {mib(ROW)} that a row may have"
    UNREADABLE = "unreadable file"


class UnreadableFile(UserError):
    """A data file that is damaged or not what its name says, whatever the layout of its rows.

    `rows` is how many rows it has, as far as it tells; else 1.
    """

    def __init__(self, message: str, rows: int = 1):
        super().__init__(message)
        self.rows = max(rows, 1)

    def __reduce__(self) -> tuple[type["UnreadableFile"], tuple[str, int]]:
        return type(self), (str(self), self.rows)  # from another process too


@dataclass(frozen=True)
class Part:
    """A piece of a data file that is read by itself. Rejects and errors name the file by `label`.

    `piece` is its first and the end of its row groups (Parquet) or bytes (JSON Lines), None the whole file.
    `size` is its bytes, about, unpacked where the file says so; `first` the number in the file of its first
    row or line. `common` is what follows from the file as a whole: each reader has its own.
    """

    path: Path
    label: str
    size: int
    piece: tuple[int, int] | None = None
    first: int = 0
    common: Any = None


@dataclass
class Raw:
    """Rows as they are, before their shape is looked at.

    `numbers` holds each row's number in the file from 0. `mixed` holds, by column and position in `table`,
    the text of values that did not fit the column's type: null there.
    """

    table: pa.Table
    numbers: Sequence[int]
    rejects: list[Reject] = field(default_factory=list)
    mixed: dict[str, dict[int, str]] = field(default_factory=dict)


def in_batches(raw: Raw) -> Iterator[Raw]:
    """Yield rows in batches that are not too large, at least one; the rejects come with the first."""
    rejects, start = raw.rejects, 0
    for batch in batches(raw.table, _ROWS, _BYTES):
        end = start + len(batch)
        mixed = {
            name: {at - start: text for at, text in odd.items() if start <= at < end}
            for name, odd in raw.mixed.items()
        }
        table = pa.Table.from_batches([batch])
        yield Raw(table, raw.numbers[start:end], rejects, {name: odd for name, odd in mixed.items() if odd})
        rejects, start = [], end
    if not start:
        yield raw


def joined(raws: list[Raw]) -> Raw:
    """Put rows of one file behind one another."""
    numbers: list[int] = []
    mixed: dict[str, dict[int, str]] = {}
    for raw in raws:
        for name, odd in raw.mixed.items():
            mixed.setdefault(name, {}).update({len(numbers) + at: text for at, text in odd.items()})
        numbers += raw.numbers
    table = pa.concat_tables(raw.table for raw in raws).combine_chunks()
    return Raw(table, numbers, [reject for raw in raws for reject in raw.rejects], mixed)
