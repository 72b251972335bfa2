"""Markdown of GitHub's kind: tables whose cells may hold anything, and folds."""

from typing import Any


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table; `head` and cells are Markdown."""
    return [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def code(value: Any) -> str:
    """Return a value as code: what a branch has written is not read as Markdown, whatever it holds."""
    text = " ".join(str(value).split())
    return f"`{text.replace('`', chr(39))}`" if text else ""


def fold(summary: str, lines: list[str]) -> list[str]:
    """Return the lines below a summary that unfolds them, or nothing where there are none."""
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>", ""] if lines else []
