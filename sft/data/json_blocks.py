"""Files of JSON and JSON Lines to blocks of objects by Python: slower than Arrow, but it bears everything."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.data import json_arrays, json_rows, text_files
from sft.data.columns import jq_path
from sft.data.limits import NESTED, REJECTS, ROW, WHOLE
from sft.data.raw_rows import FileReason, UnreadableFile
from sft.data.source_rows import SHOWN, Reject


@dataclass
class Block:
    """Some objects of a file with their numbers in it from 0, and what is none.

    `size` is the length of its text, `at` its place in the file, and `number` that of its first line.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    size: int = 0
    at: int = 0
    number: int = 0


@contextmanager
def many_objects() -> Iterator[None]:
    """Hold garbage collection off, which looks at millions of new objects again and again to find none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def of_file(path: Path, label: str, is_array: bool) -> Iterator[Block]:
    """Yield the blocks of a whole file: an array's entries, lines, or the rows that one object has.

    Raises UserError for a form that is not read and for more rejects than a file may have, UnreadableFile
    where nothing in it is a row, and UnicodeDecodeError.
    """
    return _counted(_of_array(path, label) if is_array else _of_lines_or_object(path, label))


def _counted(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks, as long as they do not have too many rejects together."""
    first, rejects = list[Reject](), 0
    for block in blocks:
        first = first or block.rejects[:1]
        rejects += len(block.rejects)
        if rejects > REJECTS:
            raise _too_many(first[0])
        yield block


def _too_many(first: Reject) -> UserError:
    return UserError(
        f"{first.source}: more than {REJECTS:,} entries of it are no rows. The first: "
        f"{first.why()}. Is it the right file? If so, leave these entries out."
    )


def _count(rejects: list[Reject], reject: Reject) -> None:
    rejects.append(reject)
    if len(rejects) > REJECTS:
        raise _too_many(rejects[0])


def of_lines(
    path: Path, label: str, start: int = 0, end: int | None = None, number: int = 0
) -> Iterator[Block]:
    """Yield the blocks of JSON Lines, from the byte `start`, whose line has this number, to `end`."""
    for at, text in text_files.line_blocks(path, label, start, end):
        with many_objects():
            block = _parsed(text, label, number)
        block.at, block.number = at, number
        number += text.count(b"\n")
        yield block


def _parsed(text: bytes, label: str, first: int) -> Block:
    block = Block(size=len(text))
    for number, line in enumerate(text_files.lines(text), first):
        if not line.strip():
            continue
        reason, detail = FileReason.TOO_LONG, f"line {number + 1}"
        if len(line) > 2 * NESTED and line.count(b"{") + line.count(b"[") > NESTED:
            reason = FileReason.TOO_MANY
        elif len(line) <= ROW:
            row = line.decode("utf-8")
            try:
                block.rows.append(json_rows.check(json_rows.parse(row), json_rows.has_escapes(row)))
                block.numbers.append(number)
                continue
            except ValueError as error:
                reason, detail = FileReason.INVALID_JSON, f"line {number + 1}: {error}"
        shown = line[: 4 * SHOWN].decode("utf-8", "ignore")
        _count(block.rejects, Reject(label, number, reason, shown, detail))
    return block


def _of_lines_or_object(path: Path, label: str) -> Iterator[Block]:
    # The first line of an object over several lines is none itself; later ones may be.
    first = next((_parsed(line, label, 0) for line in _first_line(path, label)), Block())
    if first.rejects and (rows := _one_object(path, label)):
        yield from _of_entries(((row, True, 0) for row in rows), label)
        return
    held: list[Block] = []  # until there are two rows: a file of one object may have its rows in it
    rows_so_far = 0
    for block in _counted(of_lines(path, label)):
        rows_so_far += len(block.rows)
        held.append(block)
        if rows_so_far > 1:
            yield from held
            held = []
    if rows_so_far == 1 and (rows := _one_object(path, label)):
        yield from _of_entries(((row, True, 0) for row in rows), label)
        return
    if not rows_so_far:
        fault = next(reject for block in held for reject in block.rejects)
        raise UnreadableFile(
            f"{label}: no line of it is a JSON object ({fault.why()}). "
            "Write one object a line, or one array of objects."
        )
    yield from held


def _first_line(path: Path, label: str) -> Iterator[bytes]:
    for _, text in text_files.line_blocks(path, label):
        yield from (line for line in text_files.lines(text) if line.strip())


def _of_array(path: Path, label: str) -> Iterator[Block]:
    try:
        yield from _of_entries(json_arrays.entries(path, label), label)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        _refuse_lists(next(_first_line(path, label)), label)
        raise UnreadableFile(
            f"{label}: invalid JSON: {error}. It may be truncated: fetch or write it again."
        ) from error


def _refuse_lists(line: bytes, label: str) -> None:
    """Raise UserError where the first line is a list of its own."""
    with suppress(ValueError):
        json_rows.parse(line.decode("utf-8"))
        raise UserError(
            f"{label}: its lines are lists, not objects. Where each holds messages, name them: "
            "jq -c '{messages: .}'. Where each holds rows, put them behind one another: jq -c '.[]'."
        )


def _one_object(path: Path, label: str) -> list[Any] | None:
    """Return the rows of a file that is one object, over several lines or with its rows under a name.

    Raises UserError where it has several lists of rows.
    """
    text = text_files.whole(path, label, WHOLE)
    if text is None:
        return None
    try:
        with many_objects():
            value = json_rows.parse(text)
    except ValueError:
        return None
    if len(names := json_rows.row_lists(value)) > 1:
        raise UserError(
            f"{label}: one object with several lists of rows: {', '.join(names)}. Write the one to train on "
            f"as the rows, for example jq -c '{jq_path(names[0])}[]'."
        )
    return json_rows.wrapped(value)


def _of_entries(entries: Iterable[tuple[Any, bool, int]], label: str) -> Iterator[Block]:
    """Make blocks of parsed values, each with whether its text may have escapes, and its length."""
    block, found, number = Block(), False, 0
    waiting = iter(entries)
    while True:
        with many_objects():
            for entry, escapes, length in waiting:
                _add(block, entry, escapes, number, label)
                number += 1
                block.size += length
                if block.size >= text_files.BLOCK:
                    break
            else:
                break
        found = found or bool(block.rows)
        yield block
        block = Block()
    if not found and not block.rows:
        raise UnreadableFile(f"{label}: the array holds no objects. Write one object a row.")
    yield block


def _add(block: Block, entry: Any, escapes: bool, number: int, label: str) -> None:
    try:
        block.rows.append(json_rows.check(entry, escapes))
        block.numbers.append(number)
    except ValueError as error:
        detail = f"entry {number + 1}: {error}"
        text = str(json_rows.as_json(entry))
        _count(block.rejects, Reject(label, number, FileReason.INVALID_JSON, text, detail))
