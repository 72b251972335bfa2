"""Text files, perhaps compressed: their encoding, and their lines."""

import codecs
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sft.core.errors import UserError
from sft.data.limits import RATIO, ROW, UNPACKED, mib

# Arrow cannot parse a line that is longer than its block; a long one takes the slow path.
BLOCK = 16 << 20
PACKED = {".gz": "gzip", ".zst": "zstd"}


def open_text(path: Path) -> pa.NativeFile:
    """Open a file, decompressing it where its name says so."""
    return pa.input_stream(str(path), compression=PACKED.get(path.suffix.lower()))


def blocks(path: Path, label: str, size: int = BLOCK) -> Iterator[bytes]:
    """Return a file's bytes in blocks; raises UserError where it unpacks to far more than any text does."""
    most = max(UNPACKED, RATIO * path.stat().st_size) if path.suffix.lower() in PACKED else None
    with open_text(path) as stream:
        read = 0
        while block := stream.read(size):
            read += len(block)
            if most is not None and read > most:
                raise UserError(
                    f"{label}: {path.stat().st_size:,} bytes unpack to more than {mib(most)}, which no text "
                    "does: the file is not what it should be. If it is, unpack it and name the unpacked file."
                )
            yield block


def first_character(path: Path, label: str) -> str:
    """Return the first character that is not a space; raises UserError for a BOM, UTF-16 or an empty file."""
    for number, block in enumerate(blocks(path, label, 1 << 16)):
        if number == 0:
            if block.startswith(codecs.BOM_UTF8):
                raise UserError(
                    f"{label}: begins with a UTF-8 byte order mark. Save it as UTF-8 without BOM."
                )
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in block[:4]:
                raise UserError(
                    f"{label}: is UTF-16 or UTF-32 text, not UTF-8, or no text at all. Save it as UTF-8 "
                    "without BOM."
                )
        if text := block.strip():
            return chr(text[0])
    raise UserError(f"{label}: there is nothing in the file. Fetch or write it again.")


def not_utf8(path: Path, label: str) -> UserError:
    """Return the error that says which byte of a file is no UTF-8."""
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    for chunk in blocks(path, label, 1 << 20):
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


def lines(path: Path, label: str) -> Iterator[bytes]:
    """Return a file's lines, one by one; of one that is longer than a row may be, a byte more than that."""
    # Only "\n" ends a line: strings may hold other characters that splitlines() would take.
    for block in blocks_of_lines(path, label):
        yield from block.removesuffix(b"\n").split(b"\n")


def blocks_of_lines(path: Path, label: str) -> Iterator[bytes]:
    """Return a file in blocks that end with a line, of BLOCK bytes where no line is longer.

    Of a line that is longer than a row may be the rest is left out.
    """
    parts: list[bytes] = []
    held = 0
    for block in blocks(path, label):
        end = block.rfind(b"\n") + 1
        if end:
            if held > ROW:
                first = block.find(b"\n")
                block, end = block[first:], end - first
            yield b"".join([*parts, block[:end]])
            parts, held = [], 0
        if held <= ROW:
            parts.append(block[end : end + ROW + 1 - held])
            held += len(parts[-1])
    if rest := b"".join(parts):
        yield rest


def whole(path: Path, label: str, most: int) -> str | None:
    """Return a file's text, None where it has more than so many bytes; raises UnicodeDecodeError."""
    parts, size = [], path.stat().st_size
    if size > most:
        return None
    size = 0
    for block in blocks(path, label):
        size += len(block)
        if size > most:
            return None
        parts.append(block)
    return b"".join(parts).decode("utf-8")
