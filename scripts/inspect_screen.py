"""Plain sections on a terminal, or in a file where there is none."""

import re
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

LABEL = 14  # columns of a section's name
WIDTH = 110  # of what goes into a file, where there is no terminal to be as wide as
BAR = 40  # characters of the longest bar
# Of a long stretch of text so many characters at its beginning and at its end are shown.
HEAD, TAIL = 400, 150

# What would steer the terminal: control characters, and marks that turn the direction of writing.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Screen:
    """Prints sections: a name at the left, its lines beside it."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = WIDTH
        # With NO_COLOR, in a file, on a terminal without colours: brackets mark the loss.
        self.coloured = bool(self.console.color_system) and not self.console.no_color

    def title(self, text: str) -> None:
        """Print what is looked at."""
        self._print("", Text(visible(text), style="bold"), indent=0)

    def section(self, name: str, lines: Iterable[str | Text]) -> None:
        """Print a section below an empty line; nothing where it has no line."""
        for number, line in enumerate(lines):
            if number == 0:
                self.console.print()
            self._print("" if number else name, Text(visible(line)) if isinstance(line, str) else line)

    def conversation(self, name: str, pieces: Iterable[tuple[str, bool]], end: str) -> None:
        """Print a conversation with its loss marked, long stretches without their middle, then `end`."""
        whole = Text()
        for text, in_loss in pieces:
            whole.append_text(self._marked(shortened(text), in_loss))
        self.section(name, [whole, *([Text(end, style="italic")] if end else [])])

    def legend(self) -> Text:
        """Say how `conversation` marks the loss."""
        return Text(" ").join([self._marked("in the loss", True), self._marked("not in the loss", False)])

    def _marked(self, text: str, in_loss: bool) -> Text:
        text = visible(text)
        if self.coloured:
            return Text(text, style="green" if in_loss else "dim")
        return Text(f"[[{text}]]" if in_loss else text)

    def _print(self, name: str, text: Text, indent: int = LABEL) -> None:
        text.rstrip()
        text.expand_tabs(4)
        for line in text.wrap(self.console, max(20, self.console.width - indent)):
            named = Text.assemble((name.ljust(indent), "bold"), line)
            named.rstrip()
            self.console.print(named, soft_wrap=True)
            name = ""


def visible(text: str) -> str:
    """Return text whose control characters are written out, so that it cannot steer the terminal."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def shortened(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """Leave out the middle of a long text, saying how much that is."""
    left_out = len(text) - head - tail
    return f"{text[:head]} ... {left_out:,} characters ... {text[-tail:]}" if left_out > tail else text


def excerpt(text: str, length: int) -> str:
    """Return the beginning of a text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 4]} ..."


def bar(rows: int, most: int) -> str:
    """Return a bar for so many rows, its length relative to that of `most`; of any row there is a mark."""
    return "#" * max(bool(rows), round(BAR * rows / most))
