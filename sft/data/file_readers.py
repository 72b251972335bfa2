"""Data files to raw Arrow tables: Parquet, JSON and JSON Lines, the latter two also as .gz and .zst."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from sft.core.errors import MissingFile, UserError
from sft.data import json_rows
from sft.data.source_rows import Reason, Reject
from sft.fetch.data_files import KINDS, kind_of

_UNDERSTOOD = " and ".join(f"{kind} ({', '.join(ends)})" for kind, ends in KINDS.items())

# Arrow cannot parse a line that is longer than its block; a long one takes the slow path.
_BLOCK = 16 << 20


class FileReason(Reason):
    """Why a line of a file, or an entry of its array, is no row."""

    INVALID_JSON = "invalid JSON"


@dataclass
class Raw:
    """A file's rows as they are, before their shape is looked at.

    `numbers` holds each row's number in the file from 0 (None: they are 0, 1, 2, ...). `mixed` holds,
    by column and position in `table`, the text of values that did not fit the column's type: null there.
    """

    table: pa.Table
    rejects: list[Reject] = field(default_factory=list)
    numbers: list[int] | None = None
    mixed: dict[str, dict[int, str]] = field(default_factory=dict)


def read(path: Path, label: str | None = None) -> Raw:
    """Read one data file; lines that are not JSON objects become rejects.

    Rejects and errors name the file by `label` (its path if None). Raises MissingFile where it is not
    there, and UserError where the file itself is at fault: empty, truncated, not UTF-8, of an unknown kind.
    """
    label = label or str(path)
    if not path.is_file():
        raise MissingFile(label)
    kind = kind_of(path.name)
    if kind is None:
        raise UserError(f"{label}: not a kind of file that is understood. Those are {_UNDERSTOOD}.")
    if path.stat().st_size == 0:
        raise UserError(f"{label}: the file is empty. Fetch or write it again.")
    try:
        return _READERS[kind](path, label)
    except OSError as error:
        raise UserError(f"{label}: cannot be read: {error}. Check the disk and the permissions.") from error


def _read_parquet(path: Path, label: str) -> Raw:
    try:
        # By batches: reading a row group at once fails where its nested strings pass 2 GB.
        with pq.ParquetFile(path, memory_map=True) as file:
            table = pa.Table.from_batches(file.iter_batches(batch_size=8_192), file.schema_arrow)
        table.validate(full=True)
        return Raw(table)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{label}: not a readable Parquet file, perhaps truncated ({error}). "
            "Delete it and fetch or make it again."
        ) from error


def _read_json(path: Path, label: str) -> Raw:
    try:
        first = _first_character(path, label)
        if first == "[":
            return _read_array(path, label)
        if first != "{":  # Arrow's parser crashes on a file that holds just `null`
            return _read_lines(path, label)
        try:
            return Raw(_read_lines_fast(path))
        except pa.ArrowInvalid:
            return _read_lines(path, label)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, label) from error
    except OSError as error:
        if path.suffix.lower() not in (".gz", ".zst"):
            raise
        raise UserError(
            f"{label}: cannot be decompressed: truncated, or not what its name says ({error}). "
            "Delete it and fetch or make it again."
        ) from error


def _open(path: Path) -> pa.NativeFile:
    packed = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
    return pa.input_stream(str(path), compression=packed)


def _first_character(path: Path, label: str) -> str:
    """Return the first character that is not a space; raises UserError for a BOM, UTF-16 or an empty file."""
    with _open(path) as stream:
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


def _not_utf8(path: Path, label: str) -> UserError:
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    with _open(path) as stream:
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


def _read_lines_fast(path: Path) -> pa.Table:
    """Read JSON Lines by Arrow; raises ArrowInvalid where it cannot: bad lines, mixed types, long lines."""
    options = pa.json.ReadOptions(block_size=_BLOCK)
    with _open(path) as stream:
        table = pa.json.read_json(stream, read_options=options)
    schema = pa.schema([field.with_type(_as_text(field.type)) for field in table.schema])
    if schema != table.schema:
        # Arrow takes strings that look like dates for timestamps; told the types, it keeps the text.
        parse = pa.json.ParseOptions(explicit_schema=schema)
        with _open(path) as stream:
            table = pa.json.read_json(stream, read_options=options, parse_options=parse)
    # The parser does not look at the encoding: an ArrowInvalid from here leads to the decoder's own error.
    table.validate(full=True)
    # A line `null` comes out as a row without values, as `{}` does: the slow path tells them apart.
    empty = reduce(pc.and_, (pc.is_null(column) for column in table.columns)) if table.columns else None
    if empty is None or pc.any(empty).as_py():
        raise pa.ArrowInvalid("a line holds no values")
    return table


def _as_text(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_as_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_text(field.type)) for field in kind])
    return kind


def _lines(path: Path) -> Iterator[bytes]:
    with _open(path) as stream:
        pending = b""
        while chunk := stream.read(_BLOCK):
            # Only "\n" ends a line: strings may hold other characters that splitlines() would take.
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines
        if pending:
            yield pending


def _read_lines(path: Path, label: str) -> Raw:
    """Read JSON Lines one by one: slower, but it names the faulty ones and bears values of mixed types."""
    rows, numbers, rejects = [], [], []
    for number, line in enumerate(_lines(path)):
        text = line.decode("utf-8")
        if not text.strip():
            continue
        try:
            rows.append(json_rows.check(json_rows.parse(text)))
            numbers.append(number)
        except ValueError as error:
            rejects.append(
                Reject(label, number, FileReason.INVALID_JSON, text, f"line {number + 1}: {error}")
            )
    if not rows:
        raise UserError(
            f"{label}: no line of it is a JSON object ({rejects[0].why()}). "
            "Write one object a line, or one array of objects."
        )
    table, mixed = json_rows.to_table(rows)
    return Raw(table, rejects, numbers, mixed)


def _read_array(path: Path, label: str) -> Raw:
    with _open(path) as stream:
        text = stream.read().decode("utf-8")
    try:
        entries = json_rows.parse(text)
    except ValueError as error:
        raise UserError(
            f"{label}: invalid JSON: {error}. It may be truncated: fetch or write it again."
        ) from error
    rows, numbers, rejects = [], [], []
    for number, entry in enumerate(entries):
        try:
            rows.append(json_rows.check(entry))
            numbers.append(number)
        except ValueError as error:
            detail = f"entry {number + 1}: {error}"
            rejects.append(Reject(label, number, FileReason.INVALID_JSON, repr(entry), detail))
    if not rows:
        raise UserError(f"{label}: the array holds no objects. Write one object a row.")
    table, mixed = json_rows.to_table(rows)
    return Raw(table, rejects, numbers, mixed)


_READERS: dict[str, Callable[[Path, str], Raw]] = {  # by the kind of file
    "Parquet": _read_parquet,
    "JSON": _read_json,
}
