"""Text files, perhaps compressed: their encoding, and their lines."""

import codecs
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sft.core.errors import UserError

# Arrow cannot parse a line that is longer than its block; a long one takes the slow path.
BLOCK = 16 << 20


def open_text(path: Path) -> pa.NativeFile:
    """Open a file, decompressing it where its name says so."""
    packed = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
    return pa.input_stream(str(path), compression=packed)


def first_character(path: Path, label: str) -> str:
    """Return the first character that is not a space; raises UserError for a BOM, UTF-16 or an empty file."""
    with open_text(path) as stream:
        head = stream.read(4)
        if head.startswith(codecs.BOM_UTF8):
            raise UserError(f"{label}: begins with a UTF-8 byte order mark. Save it as UTF-8 without BOM.")
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head:
            raise UserError(f"{label}: is UTF-16 or UTF-32 text, not UTF-8. Save it as UTF-8 without BOM.")
        while head and not head.strip():
            head = stream.read(4096)
    if not head:
        raise UserError(f"{label}: there is nothing in the file. Fetch or write it again.")
    return chr(head.strip()[0])


def not_utf8(path: Path, label: str) -> UserError:
    """Return the error that says which byte of a file is no UTF-8."""
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    with open_text(path) as stream:
        while chunk := stream.read(1 << 20):
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                at = position - pending + error.start
                value = error.object[error.start]
                return UserError(
                    f"{label}: not valid UTF-8: byte 0x{value:02x} at position {at:,}. Save it as UTF-8, "
                    f"or convert it: iconv -f windows-1252 -t utf-8 (if that is what it is)."
                )
            position += len(chunk)
    return UserError(f"{label}: not valid UTF-8: it ends within a character. Fetch or write it again.")


def lines(path: Path) -> Iterator[bytes]:
    """Return the lines of a file, one by one."""
    # Only "\n" ends a line: strings may hold other characters that splitlines() would take.
    for block in blocks_of_lines(path):
        yield from block.removesuffix(b"\n").split(b"\n")


def blocks_of_lines(path: Path) -> Iterator[bytes]:
    """Return a file in blocks that end with a line, of BLOCK bytes where no line is longer."""
    with open_text(path) as stream:
        parts: list[bytes] = []
        while chunk := stream.read(BLOCK):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield b"".join([*parts, chunk[:end]])
                parts = []
            parts.append(chunk[end:])
        if rest := b"".join(parts):
            yield rest
