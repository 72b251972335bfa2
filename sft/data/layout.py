"""What is known of a layout of data files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sft.data import layout_finders as finders
from sft.data.columns import Columns, Used


@dataclass(frozen=True)
class Layout:
    """A layout: how it is known, two rows as examples, and what becomes of each field.

    `find` returns the columns that are read, or None where the file is not of the layout. One that is refused
    says by `refused` what to do instead.
    """

    name: str
    known_by: str
    example: tuple[dict[str, Any], dict[str, Any]]
    fields: dict[str, str]
    find: Callable[[Columns], Used | None]
    refused: str = ""

    @property
    def is_preference(self) -> bool:
        """Tell whether the rows have answers that were preferred to others, which `#chosen` takes."""
        return self.find in finders.PREFERENCES
