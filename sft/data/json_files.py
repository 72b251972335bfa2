"""JSON and JSON Lines to raw Arrow tables: lines by Arrow where it can, anything else by Python."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft.core.errors import UserError
from sft.data import arrow_json, json_arrays, json_rows, text_files
from sft.data.columns import jq_path, short
from sft.data.limits import COLUMNS, NESTED, REJECTS, ROW, WHOLE
from sft.data.raw_rows import FileReason, Raw
from sft.data.source_rows import SHOWN, Reject


def read_json(path: Path, label: str) -> Raw:
    """Read a file of JSON or JSON Lines; raises UserError where it is none, and not UTF-8."""
    try:
        first = text_files.first_character(path, label)
        # Arrow's parser crashes on a file that holds just `null`, and on what is nested very deeply.
        if first == "{" and arrow_json.can_read(path, label):
            with suppress(pa.ArrowInvalid):
                table = arrow_json.read_lines(path)
                if arrow_json.is_exact(table):
                    return Raw(table)
        with _many_objects():
            return _read_array(path, label) if first == "[" else _read_lines(path, label)
    except UnicodeDecodeError as error:
        raise text_files.not_utf8(path, label) from error
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


def _read_lines(path: Path, label: str) -> Raw:
    """Read JSON Lines one by one: slower, but it names the faulty ones and bears values of mixed types."""
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(text_files.lines(path, label)):
        if not line.strip():
            continue
        reason, detail = FileReason.TOO_LONG, f"line {number + 1}"
        if len(line) > 2 * NESTED and line.count(b"{") + line.count(b"[") > NESTED:
            reason = FileReason.TOO_MANY
        elif len(line) <= ROW:
            text = line.decode("utf-8")
            try:
                rows.append(json_rows.check(json_rows.parse(text), json_rows.has_escapes(text)))
                numbers.append(number)
                continue
            except ValueError as error:
                reason, detail = FileReason.INVALID_JSON, f"line {number + 1}: {error}"
        # The first line of an object over several lines is none itself; later ones may be.
        if not rows and not rejects and (one := _one_object(path, label)):
            return _of_entries(((row, True) for row in one), label)
        text = line[: 4 * SHOWN].decode("utf-8", "ignore")
        _count(rejects, Reject(label, number, reason, text, detail))
    if len(rows) == 1 and (one := _one_object(path, label)):
        return _of_entries(((row, True) for row in one), label)
    if not rows:
        raise UserError(
            f"{label}: no line of it is a JSON object ({rejects[0].why()}). "
            "Write one object a line, or one array of objects."
        )
    return _to_raw(rows, rejects, numbers, label)


def _count(rejects: list[Reject], reject: Reject) -> None:
    """Add a reject; raises UserError where a file has so many that it is something else."""
    rejects.append(reject)
    if len(rejects) > REJECTS:
        raise UserError(
            f"{reject.source}: more than {REJECTS:,} entries of it are no rows. The first: "
            f"{rejects[0].why()}. Is it the right file? If so, leave these entries out."
        )


def _to_raw(rows: list[dict[str, Any]], rejects: list[Reject], numbers: list[int], label: str) -> Raw:
    names = dict.fromkeys(key for row in rows for key in row)
    if len(names) > COLUMNS:
        shown = ", ".join(short(name) for name in list(names)[:3])
        raise UserError(
            f"{label}: its rows have {len(names):,} keys in sum ({shown}, ...), and {COLUMNS:,} at most are "
            "read. All rows should have the same keys: what is keyed by an id goes into a value."
        )
    table, mixed = json_rows.to_table(rows)
    return Raw(table, rejects, numbers, mixed)


def _read_array(path: Path, label: str) -> Raw:
    try:
        return _of_entries(json_arrays.entries(path, label), label)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        _refuse_lists(next(line for line in text_files.lines(path, label) if line.strip()), label)
        raise UserError(
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
        value = json_rows.parse(text)
    except ValueError:
        return None
    if len(names := json_rows.row_lists(value)) > 1:
        raise UserError(
            f"{label}: one object with several lists of rows: {', '.join(names)}. Write the one to train on "
            f"as the rows, for example jq -c '{jq_path(names[0])}[]'."
        )
    return json_rows.wrapped(value)


def _of_entries(entries: Iterable[tuple[Any, bool]], label: str) -> Raw:
    """Make rows of parsed values, each with whether its text may have escapes of surrogates."""
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, (entry, escapes) in enumerate(entries):
        try:
            rows.append(json_rows.check(entry, escapes))
            numbers.append(number)
        except ValueError as error:
            detail = f"entry {number + 1}: {error}"
            text = str(json_rows.as_json(entry))
            _count(rejects, Reject(label, number, FileReason.INVALID_JSON, text, detail))
    if not rows:
        raise UserError(f"{label}: the array holds no objects. Write one object a row.")
    return _to_raw(rows, rejects, numbers, label)
