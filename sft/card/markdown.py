"""Texts of users' inside Markdown: as cells of a table and as code."""


def cell(text: str) -> str:
    """Return a text on one line, in which no character ends a cell, begins a tag or marks up."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|" else character for character in text)
    return " ".join(escaped.split())


def code(text: str) -> str:
    """Return a text as code, on one line; a backtick and a bar would end it, or a cell."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`" if plain else ""
