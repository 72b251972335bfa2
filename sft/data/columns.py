"""The columns of a data file: their names in the wild, and which of them a layout reads."""

from typing import TypeAlias

import pyarrow as pa

from sft.data.arrays import is_list

LISTS = ("messages", "conversations", "conversation")
SYSTEMS = ("system", "system_prompt")
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "response"), ("question", "answer"))
QUERIES = ("prompt", "question", "instruction", "query")
TOOLS = ("tools", "functions")
REASONINGS = ("reasoning_content", "reasoning", "thinking")
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
LABELS = ("label", "kto_tag")
# Where a JSON file of one object has its rows.
WRAPPERS = ("data", "rows", "examples", "instances", "items", "train")
_FURTHER = ("input", "output", "context", "history", "answers", "chosen", "rejected", "contents", "text")

# What a conversation, or the choice of its rows, may be made from.
READ = frozenset(
    [
        *(name for names in (LISTS, SYSTEMS, QUERIES, TOOLS, REASONINGS, LABELS, _FURTHER) for name in names),
        *(name for pair in PAIRS for name in pair),
    ]
)

Used: TypeAlias = dict[str, str]  # columns by what they are read as


class Columns:
    """A file's columns, by names in lower case."""

    def __init__(self, schema: pa.Schema) -> None:
        self.fields = {field.name.lower(): field for field in reversed(list(schema))}

        self._schema = schema

    def __str__(self) -> str:
        return ", ".join(f"{field.name} ({_short(field.type)})" for field in self._schema) or "none"

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def has(self, *names: str) -> bool:
        """Tell whether all of these are there."""
        return all(name in self.fields for name in names)

    def first(self, names: tuple[str, ...]) -> str | None:
        """Return the first of the names that is there."""
        return next((name for name in names if name in self.fields), None)

    def kind(self, name: str) -> pa.DataType:
        """Return a column's type."""
        return self.fields[name].type

    def used(self, **names: str) -> Used:
        """Return the file's own spelling of these columns' names."""
        return {what: self.fields[name].name for what, name in names.items()}


def _short(kind: pa.DataType) -> str:
    """Write a type, what is nested only so far as it can be read."""
    if is_list(kind):
        return f"list of {_short(kind.value_type)}" if not is_list(kind.value_type) else "list of lists"
    if pa.types.is_struct(kind):
        return f"{{{', '.join(field.name for field in kind)}}}"
    return "nested" if pa.types.is_binary(kind) else str(kind)
