"""Write the part of docs/data.md that says which layouts of data files are understood.

Run as `python -m scripts.layout_table` after a change of a layout in sft/data.
"""

import json
from pathlib import Path

from sft.core.files import read_text, write_text
from sft.data.arrays import PART_KEYS
from sft.data.columns import MEDIA, REASONINGS, SYSTEMS, TOOLS
from sft.data.layout import Layout
from sft.data.layouts import LAYOUTS
from sft.data.message_columns import CALL_KEYS, NAME_KEYS, REASONING_KEYS, TRAIN_KEYS, WEIGHT_KEY

PAGE = "docs/data.md"
BEGIN = "<!-- made by python -m scripts.layout_table -->\n"
END = "<!-- end of what is made -->\n"


def _named(*names: str) -> str:
    return ", ".join(f"`{name}`" for name in names)


OF_MESSAGES = {
    "`content` in parts": f"texts (of each {_named(*PART_KEYS)}) are joined; a row with a picture, a film or "
    "a sound is refused as multimodal",
    _named(*CALL_KEYS): "the assistant's tool calls, as a list or its JSON, arguments as an object or its "
    "JSON; no text is needed beside them",
    _named(*NAME_KEYS): "of a tool's message: which call it answers",
    f"{_named(*REASONING_KEYS)}, a `thinking` part, or `<think>` ... `</think>` before an answer": "the "
    "assistant's reasoning, apart from the answer; `<think>` may be left out, OpenThoughts' tokens for a "
    "thought and its solution are read as the same, and a thought that does not end is refused",
    f"0 or false, also as text, in {_named(WEIGHT_KEY, *TRAIN_KEYS)}": "the answer is read but not trained "
    "on; a row in which none is trained on is refused",
    "any other field": "dropped, and named with the number of rows that have something in it",
}
OF_ROWS = {
    _named(*SYSTEMS): "a system message, unless the conversation has its own",
    _named(*TOOLS): "the tools, as a list or its JSON",
    "`history`": "earlier turns, as Alpaca's or as messages, of any layout that is no list of messages",
    _named(*REASONINGS): "the reasoning of an answer that has a column of its own",
    _named(*MEDIA): "a row with something in it is refused as multimodal: where it is a path or an address, "
    "only if the text has `<image>` and the like, else it is dropped",
    "no such column, but `<image>`, `<video>` or `<audio>` at an end of a question or alone on a line": "the "
    "row is refused as multimodal",
    "two columns of one meaning, such as `tools` and `functions`": "the first that says something in a row; "
    "what the other says too is dropped and counted",
    "a column of single values, such as `score`": "kept beside the row; one that other layouts read is "
    "named, for it is not read here",
    "`choices`, lists of texts": "kept beside the row",
    "any other column": "dropped, and named with the number of rows that have something in it",
}


def build() -> str:
    """Return the layouts as Markdown: each with two lines of example, and what becomes of each field."""
    understood = [layout for layout in LAYOUTS if not layout.refused]
    refused = [layout for layout in LAYOUTS if layout.refused]
    parts = [
        *map(_described, understood),
        f"Messages of all of these may have\n\n{_table('field of a message', OF_MESSAGES)}",
        f"and rows\n\n{_table('column', OF_ROWS)}",
        "These are refused, each by its name:",
        *map(_described, refused),
    ]
    return "\n\n".join(parts) + "\n"


def page(text: str) -> str:
    """Return the page `text` with what is made put in anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{build()}\n{END}{after}"


def _described(layout: Layout) -> str:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in layout.example)
    parts = [f"**{layout.name}**: {layout.known_by}", f"```json\n{lines}\n```"]
    if layout.refused:
        parts.append(layout.refused.replace("{column}", "NAME").replace("{path}", ".NAME"))
    if layout.fields:
        parts.append(
            _table("field", {_named(*names.split(", ")): becomes for names, becomes in layout.fields.items()})
        )
    return "\n\n".join(parts)


def _table(what: str, rows: dict[str, str]) -> str:
    return "\n".join([f"| {what} | becomes |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows.items())])


if __name__ == "__main__":
    write_text(Path(PAGE), page(read_text(PAGE)))
