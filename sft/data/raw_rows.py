"""A file's rows before their shape is looked at."""

from dataclasses import dataclass, field

import pyarrow as pa

from sft.data.limits import NESTED, ROW, mib
from sft.data.source_rows import Reason, Reject


class FileReason(Reason):
    """Why a line of a file, or an entry of its array, is no row."""

    INVALID_JSON = "invalid JSON"
    TOO_MANY = f"more than {NESTED:,} lists and objects"
    TOO_LONG = f"longer than the {mib(ROW)} that a row may have"


@dataclass
class Raw:
    """A file's rows as they are, before their shape is looked at.

    `numbers` holds each row's number in the file from 0 (None: they are 0, 1, 2, ...). `mixed` holds,
    by column and position in `table`, the text of values that did not fit the column's type: null there.
    """

    table: pa.Table
    rejects: list[Reject] = field(default_factory=list)
    numbers: list[int] | None = None
    mixed: dict[str, dict[int, str]] = field(default_factory=dict)
