"""Data files to raw Arrow tables: Parquet, JSON and JSON Lines, the latter two also as .gz and .zst."""

import codecs
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from sft.core.errors import MissingFile, UserError
from sft.data import json_rows
from sft.data.columns import READ, TOOLS, WRAPPERS
from sft.data.message_columns import CALL_KEYS, is_list, is_text
from sft.data.source_rows import Reason, Reject
from sft.fetch.data_files import KINDS, kind_of

_PAGE = "an HTML page: perhaps an error or a login page was saved. Fetch the file itself"
# What a file is instead where it begins with this, and what to do about it.
_DISGUISED = {
    b"version https://git-lfs.github.com/spec": "a Git LFS pointer. Fetch the file: git lfs pull",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
}
_TABLES = {".csv": ",", ".tsv": "\\t"}
# Deeper than this Arrow's JSON parser may end the process; Python's says that it is too deep.
_DEEPEST = 500
_BRACKETS = b"[]{}\n"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))

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
        raise _unknown_kind(path, label)
    if path.stat().st_size == 0:
        raise UserError(f"{label}: the file is empty. Fetch or write it again.")
    try:
        _refuse_disguised(path, label)
        return _READERS[kind](path, label)
    except OSError as error:
        raise UserError(f"{label}: cannot be read: {error}. Check the disk and the permissions.") from error


def _unknown_kind(path: Path, label: str) -> UserError:
    if separator := _TABLES.get(path.suffix.lower()):
        name = path.with_suffix(".parquet").name
        return UserError(
            f"{label}: {path.suffix[1:].upper()} is not read, for it says nothing of types. Convert it, and "
            f"look at what comes out: python -c \"import pandas; pandas.read_csv('{path.name}', "
            f"sep='{separator}').to_parquet('{name}')\". Understood: {_UNDERSTOOD}."
        )
    return UserError(f"{label}: not a kind of file that is understood. Those are {_UNDERSTOOD}.")


def _refuse_disguised(path: Path, label: str) -> None:
    """Raise UserError where the file begins as something else than its name says."""
    with path.open("rb") as file:
        head = file.read(256).lstrip().lower()
    for start, what in _DISGUISED.items():
        if head.startswith(start):
            raise UserError(f"{label}: this is {what}.")


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
        # Arrow's parser crashes on a file that holds just `null`, and on what is nested very deeply.
        if first == "{" and _depth(path) <= _DEEPEST:
            with suppress(pa.ArrowInvalid):
                table = _read_lines_fast(path)
                if _is_exact(table):
                    return Raw(table)
        with _many_objects():
            return _read_array(path, label) if first == "[" else _read_lines(path, label)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, label) from error
    except OSError as error:
        if path.suffix.lower() not in (".gz", ".zst"):
            raise
        raise UserError(
            f"{label}: cannot be decompressed: truncated, or not what its name says ({error}). "
            "Delete it and fetch or make it again."
        ) from error


@contextmanager
def _many_objects() -> Iterator[None]:
    """Hold garbage collection off, which looks at millions of new objects again and again to find none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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


def _depth(path: Path) -> int:
    """Return how deep the brackets of any line go, those in texts included: no less than what is nested."""
    deepest = 0
    for block in _blocks_of_lines(path):
        signs = np.frombuffer(block.translate(None, _NO_BRACKETS), np.uint8)
        ends = signs == ord("\n")
        step = np.where((signs == ord("[")) | (signs == ord("{")), 1, -1)
        # At each end of a line far down, so that what is closed in one line says nothing of the next.
        step[ends] = -len(block)
        depth = np.cumsum(step)
        deepest = max(deepest, 1 + int((depth - np.minimum.accumulate(depth)).max(initial=0)))
    return deepest


def _is_exact(table: pa.Table) -> bool:
    """Tell whether all objects that are kept as they are have the same keys, as Arrow has it.

    Of tools and of the arguments of tool calls Arrow makes one type with the keys of all.
    """
    for column in table.schema:
        kind = column.type
        if column.name.lower() in (*TOOLS, "answers") and not is_text(kind) and not pa.types.is_null(kind):
            return False
        inner = kind.value_type if is_list(kind) else kind
        if column.name.lower() in READ and pa.types.is_struct(inner):
            for call in (key for key in CALL_KEYS if key in {one.name for one in inner}):
                if not _is_plain_call(inner.field(call).type):
                    return False
    # A file of one object may have its rows in it.
    return len(table) > 1 or not any(name.lower() in WRAPPERS for name in table.column_names)


def _is_plain_call(kind: pa.DataType) -> bool:
    """Tell whether tool calls have nothing nested but their functions."""
    if is_list(kind):
        return _is_plain_call(kind.value_type)
    if not pa.types.is_struct(kind):
        return True
    nested = [one for one in kind if pa.types.is_nested(one.type)]
    return all(one.name == "function" and _is_plain_call(one.type) for one in nested)


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


def _as_text(kind: pa.DataType, depth: int = 0) -> pa.DataType:
    if pa.types.is_temporal(kind):
        return pa.string()
    if depth > 20:  # nothing so deep is read
        return kind
    if pa.types.is_list(kind):
        return pa.list_(_as_text(kind.value_type, depth + 1))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_text(field.type, depth + 1)) for field in kind])
    return kind


def _lines(path: Path) -> Iterator[bytes]:
    # Only "\n" ends a line: strings may hold other characters that splitlines() would take.
    for block in _blocks_of_lines(path):
        yield from block.removesuffix(b"\n").split(b"\n")


def _blocks_of_lines(path: Path) -> Iterator[bytes]:
    with _open(path) as stream:
        parts: list[bytes] = []
        while chunk := stream.read(_BLOCK):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield b"".join([*parts, chunk[:end]])
                parts = []
            parts.append(chunk[end:])
        if rest := b"".join(parts):
            yield rest


def _read_lines(path: Path, label: str) -> Raw:
    """Read JSON Lines one by one: slower, but it names the faulty ones and bears values of mixed types."""
    rows, numbers, rejects = [], [], []
    for number, line in enumerate(_lines(path)):
        text = line.decode("utf-8")
        if not text.strip():
            continue
        try:
            rows.append(json_rows.check(json_rows.parse(text), json_rows.has_escapes(text)))
            numbers.append(number)
        except ValueError as error:
            rejects.append(
                Reject(label, number, FileReason.INVALID_JSON, text, f"line {number + 1}: {error}")
            )
    # The first line of an object over several lines is none itself; later ones may be.
    is_one = len(rows) < 2 or (rejects and rejects[0].row < numbers[0])
    if is_one and (whole := _one_object(path)):
        return _of_entries(whole, label, escapes=True)
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
    return _of_entries(entries, label, json_rows.has_escapes(text))


def _one_object(path: Path) -> list[Any] | None:
    """Return the rows of a file that is one object, over several lines or with its rows under a name."""
    with _open(path) as stream:
        try:
            return json_rows.wrapped(json_rows.parse(stream.read().decode("utf-8")))
        except ValueError:
            return None


def _of_entries(entries: list[Any], label: str, escapes: bool) -> Raw:
    rows, numbers, rejects = [], [], []
    for number, entry in enumerate(entries):
        try:
            rows.append(json_rows.check(entry, escapes))
            numbers.append(number)
        except ValueError as error:
            detail = f"entry {number + 1}: {error}"
            rejects.append(
                Reject(label, number, FileReason.INVALID_JSON, str(json_rows.as_json(entry)), detail)
            )
    if not rows:
        raise UserError(f"{label}: the array holds no objects. Write one object a row.")
    table, mixed = json_rows.to_table(rows)
    return Raw(table, rejects, numbers, mixed)


_READERS: dict[str, Callable[[Path, str], Raw]] = {  # by the kind of file
    "Parquet": _read_parquet,
    "JSON": _read_json,
}
