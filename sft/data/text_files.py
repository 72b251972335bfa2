"""Text files, perhaps compressed: their encoding, and their lines."""

import codecs
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sft.data.limits import RATIO, ROW, UNPACKED, mib
from sft.data.raw_rows import UnreadableFile

# Bytes read at once. Blocks of 16 MiB take twice as long to parse, for each takes new pages of memory.
BLOCK = 4 << 20
PACKED = {".gz": "gzip", ".zst": "zstd"}


def open_text(path: Path) -> pa.NativeFile:
    """Open a file, decompressing it where its name says so."""
    return pa.input_stream(str(path), compression=PACKED.get(path.suffix.lower()))


def is_packed(path: Path) -> bool:
    """Tell by its name whether a file is compressed."""
    return path.suffix.lower() in PACKED


def blocks(path: Path, label: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Return a file's bytes in blocks, or those of an uncompressed one from `start` to `end`.

    Raises UnreadableFile where it unpacks to far more than any text does.
    """
    most = max(UNPACKED, RATIO * path.stat().st_size) if is_packed(path) else None
    with open_text(path) as stream:
        if start:
            stream.seek(start)
        read = start
        while block := stream.read(BLOCK if end is None else min(BLOCK, end - read)):
            read += len(block)
            if most is not None and read > most:
                raise UnreadableFile(
                    f"{label}: {path.stat().st_size:,} bytes unpack to more than {mib(most)}, which no text "
                    "does: the file is not what it should be. If it is, unpack it and name the unpacked file."
                )
            yield block


def first_character(path: Path, label: str) -> str:
    """Return the first character that is not a space; raises UnreadableFile for a BOM, UTF-16 or no text."""
    for number, block in enumerate(blocks(path, label)):
        if number == 0:
            if block.startswith(codecs.BOM_UTF8):
                raise UnreadableFile(
                    f"{label}: begins with a UTF-8 byte order mark. Save it as UTF-8 without BOM."
                )
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in block[:4]:
                raise UnreadableFile(
                    f"{label}: is UTF-16 or UTF-32 text, not UTF-8, or no text at all. Save it as UTF-8 "
                    "without BOM."
                )
        if text := block.strip():
            return chr(text[0])
    raise UnreadableFile(f"{label}: there is nothing in the file. Fetch or write it again.")


def not_utf8(path: Path, label: str) -> UnreadableFile:
    """Return the error that says which byte of a file is no UTF-8."""
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    for chunk in blocks(path, label):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            at = position - pending + error.start
            value = error.object[error.start]
            return UnreadableFile(
                f"{label}: not valid UTF-8: byte 0x{value:02x} at position {at:,}. Save it as UTF-8, "
                f"or convert it: iconv -f windows-1252 -t utf-8 (if that is what it is)."
            )
        position += len(chunk)
    return UnreadableFile(f"{label}: not valid UTF-8: it ends within a character. Fetch or write it again.")


def lines(text: bytes) -> list[bytes]:
    """Return the lines of a block of them; of one that is longer than a row may be, a byte more than that."""
    # Only "\n" ends a line: strings may hold other characters that splitlines() would take.
    return text.removesuffix(b"\n").split(b"\n")


def line_blocks(
    path: Path, label: str, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Return a file in blocks that end with a line, each with its place: BLOCK bytes where no line is longer.

    Of a line that is longer than a row may be the rest is left out. `start` and `end` are those of lines, of
    a file that is not compressed.
    """
    parts: list[bytes] = []
    held, at, read = 0, start, start
    for block in blocks(path, label, start, end):
        last = block.rfind(b"\n") + 1
        after, read = read + last, read + len(block)
        if last:
            if held > ROW:
                first = block.find(b"\n")
                block, last = block[first:], last - first
            yield at, b"".join([*parts, block[:last]])
            parts, held, at = [], 0, after
        if held <= ROW:
            parts.append(block[last : last + ROW + 1 - held])
            held += len(parts[-1])
    if rest := b"".join(parts):
        yield at, rest


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
