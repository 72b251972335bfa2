"""The columns of a data file: their names in the wild, and which of them a layout reads."""

import re
from typing import TypeAlias

import pyarrow as pa

from sft.data.arrays import is_list

LISTS = ("messages", "conversations", "conversation")
SYSTEMS = ("system", "system_prompt")
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "response"), ("question", "answer"))
QUERIES = ("prompt", "question", "instruction", "query")
TOOLS = ("tools", "functions")
REASONINGS = ("reasoning_content", "reasoning", "thinking", "complex_cot", "chain_of_thought")
# What stands below a question.
BELOW = ("input", "context", "passage")
MEDIA = (
    *("image", "images", "video", "videos", "audio", "audios"),
    *("image_path", "image_paths", "image_url", "image_urls", "video_path", "audio_path"),
)
# Better answers and worse ones.
CHOICES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("accepted", "rejected"),
    ("response", "rejected_response"),
)
LABELS = ("label", "kto_tag")
# Where a JSON file of one object has its rows.
WRAPPERS = ("data", "rows", "examples", "instances", "items", "train")
_FURTHER = ("output", "history", "answers", "contents", "text", "text_input")

# What a conversation, or the choice of its rows, may be made from.
READ = frozenset(
    [
        *(
            name
            for names in (LISTS, SYSTEMS, QUERIES, TOOLS, REASONINGS, BELOW, LABELS, _FURTHER)
            for name in names
        ),
        *(name for pair in (*PAIRS, *CHOICES) for name in pair),
    ]
)

# What a message shows of many columns, and of long names.
_MOST, _LONGEST = 40, 80

Used: TypeAlias = dict[str, str]  # columns by what they are read as


class Columns:
    """A file's columns, by names in lower case."""

    def __init__(self, schema: pa.Schema) -> None:
        self.fields: dict[str, pa.Field] = {}
        for field in schema:
            self.fields.setdefault(field.name.lower(), field)
        self._schema = schema

    def __str__(self) -> str:
        shown = [f"{short(field.name)} ({_short(field.type)})" for field in [*self._schema][:_MOST]]
        more = [f"and {len(self._schema) - _MOST:,} more"] if len(self._schema) > _MOST else []
        return ", ".join([*shown, *more]) or "none"

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def has(self, *names: str) -> bool:
        """Tell whether all of these are there."""
        return all(name in self.fields for name in names)

    def first(self, names: tuple[str, ...]) -> str | None:
        """Return the first of the names that is there."""
        return next((name for name in names if name in self.fields), None)

    def present(self, names: tuple[str, ...], what: str) -> dict[str, str]:
        """Return those of the names that are there, as `columns_for` finds them."""
        found = [name for name in names if name in self.fields]
        return {f"{what} {number}" if number else what: name for number, name in enumerate(found)}

    def kind(self, name: str) -> pa.DataType:
        """Return a column's type."""
        return self.fields[name].type

    def used(self, **names: str) -> Used:
        """Return the file's own spelling of these columns' names."""
        return {what: self.fields[name].name for what, name in names.items()}


def columns_for(used: Used, what: str) -> list[str]:
    """Return all columns that are read as one thing: the first, and those that add to it or fill its gaps."""
    return [name for key, name in used.items() if key.split(" ")[0] == what]


def jq_path(name: str) -> str:
    """Write a column as jq has it."""
    return f".{name}" if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f'."{name}"'


def short(name: str) -> str:
    """Write a column's name, of a very long one its begin."""
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."


def _short(kind: pa.DataType) -> str:
    """Write a type, what is nested only so far as it can be read."""
    if is_list(kind):
        return f"list of {_short(kind.value_type)}" if not is_list(kind.value_type) else "list of lists"
    if pa.types.is_struct(kind):
        names = [short(field.name) for field in [*kind][:_MOST]]
        return f"{{{', '.join([*names, *(['...'] if len(kind) > _MOST else [])])}}}"
    return "nested" if pa.types.is_binary(kind) else str(kind)
