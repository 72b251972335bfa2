"""The entries of a JSON array one after another: json.loads would need all of the text at once."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft.data import text_files
from sft.data.json_rows import has_escapes
from sft.data.limits import ROW, mib
from sft.data.raw_rows import UnreadableFile

_SPACE = re.compile(r"[ \t\n\r]*")
# An error so near the end of what has been read may be that the rest is not there yet.
_NEAR = 16


def entries(path: Path, label: str) -> Iterator[tuple[Any, bool, int]]:
    """Yield each entry of a file's array, whether its text may have escapes of surrogates, and its length.

    Raises ValueError saying what is no JSON and where, UnreadableFile for an entry that is longer than a row
    may be, and UnicodeDecodeError.
    """
    text = _Text(path, label)
    text.expect("[")
    if text.next() == "]":
        text.expect("]")
    else:
        number = 1
        yield text.value(number), text.escapes, text.length
        while text.next() == ",":
            number += 1
            text.expect(",")
            yield text.value(number), text.escapes, text.length
        text.expect("]")
    if text.next():
        raise text.fault("Extra data", text.at)


class _Text:
    """The part of the text that has been read and is not parsed yet."""

    def __init__(self, path: Path, label: str) -> None:
        self.label = label
        self.at = 0
        self.escapes = False
        self.length = 0  # of the last value
        self._parse = json.JSONDecoder().raw_decode
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._blocks = text_files.blocks(path, label)
        self._read, self._ended = "", False
        self._lines, self._column = 0, 0  # of what has been parsed and let go

    def next(self) -> str:
        """Return the next character that is no space, the empty text where there is none."""
        while True:
            found = _SPACE.match(self._read, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self._read) or self._ended:
                return self._read[self.at : self.at + 1]
            self._more()

    def expect(self, sign: str) -> None:
        """Step over a character; raises ValueError where there is another."""
        if self.next() != sign:
            raise self.fault("Expecting ',' delimiter" if sign == "]" else f"Expecting {sign!r}", self.at)
        self.at += 1

    def value(self, number: int) -> Any:
        """Parse the next value, which is the `number`th entry."""
        self.next()
        while True:
            try:
                value, end = self._parse(self._read, self.at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or error.pos > len(self._read) - _NEAR
                if self._ended or not is_cut:
                    raise self.fault(error.msg, error.pos) from None
            except RecursionError:
                raise ValueError(f"entry {number:,} is nested too deeply") from None
            except ValueError:  # an integer of thousands of digits
                raise ValueError(f"entry {number:,} has a number of too many digits") from None
            else:
                if (end < len(self._read) or self._ended) and end - self.at <= ROW:
                    self.at, self.length = end, end - self.at
                    return value
            if len(self._read) - self.at > ROW:
                raise UnreadableFile(
                    f"{self.label}: entry {number:,} is longer than the {mib(ROW)} that a row may have. Take "
                    "it out, or write one object a line: there such a row is left out, and counted."
                )
            self._more()

    def fault(self, what: str, at: int) -> ValueError:
        """Return the error of what stands at a place, naming it by line and column of the file."""
        before = self._read[:at]
        line = self._lines + before.count("\n") + 1
        column = at - before.rfind("\n") if "\n" in before else self._column + at + 1
        place = f"line {line:,}, column {column:,}" if line > 1 else f"column {column:,}"
        return ValueError(f"{what} at {place}")

    def _more(self) -> None:
        done = self._read[: self.at]
        self._lines += done.count("\n")
        self._column = len(done) - done.rfind("\n") - 1 if "\n" in done else self._column + len(done)
        block = next(self._blocks, b"")
        self._ended = not block
        new = self._decoder.decode(block, final=self._ended)
        self._read, self.at = self._read[self.at :] + new, 0
        self.escapes = has_escapes(self._read)
