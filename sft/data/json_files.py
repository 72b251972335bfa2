"""JSON and JSON Lines to raw Arrow tables: lines by Arrow where it can, anything else by Python."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft.core.errors import UserError
from sft.data import arrow_json, json_rows, text_files
from sft.data.columns import jq_path
from sft.data.raw_rows import FileReason, Raw
from sft.data.source_rows import Reject


def read_json(path: Path, label: str) -> Raw:
    """Read a file of JSON or JSON Lines; raises UserError where it is none, and not UTF-8."""
    try:
        first = text_files.first_character(path, label)
        # Arrow's parser crashes on a file that holds just `null`, and on what is nested very deeply.
        if first == "{" and arrow_json.depth(path) <= arrow_json.DEEPEST:
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
    rows, numbers, rejects = [], [], []
    for number, line in enumerate(text_files.lines(path)):
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
    if is_one and (whole := _one_object(path, label)):
        return _of_entries(whole, label, escapes=True)
    if not rows:
        raise UserError(
            f"{label}: no line of it is a JSON object ({rejects[0].why()}). "
            "Write one object a line, or one array of objects."
        )
    table, mixed = json_rows.to_table(rows)
    return Raw(table, rejects, numbers, mixed)


def _read_array(path: Path, label: str) -> Raw:
    with text_files.open_text(path) as stream:
        text = stream.read().decode("utf-8")
    try:
        entries = json_rows.parse(text)
    except ValueError as error:
        _refuse_lists(text, label)
        raise UserError(
            f"{label}: invalid JSON: {error}. It may be truncated: fetch or write it again."
        ) from error
    return _of_entries(entries, label, json_rows.has_escapes(text))


def _refuse_lists(text: str, label: str) -> None:
    """Raise UserError where the first line is a list of its own."""
    with suppress(ValueError):
        json_rows.parse(text.lstrip().split("\n", 1)[0])
        raise UserError(
            f"{label}: its lines are lists, not objects. Where each holds messages, name them: "
            "jq -c '{messages: .}'. Where each holds rows, put them behind one another: jq -c '.[]'."
        )


def _one_object(path: Path, label: str) -> list[Any] | None:
    """Return the rows of a file that is one object, over several lines or with its rows under a name.

    Raises UserError where it has several lists of rows.
    """
    with text_files.open_text(path) as stream:
        try:
            value = json_rows.parse(stream.read().decode("utf-8"))
        except ValueError:
            return None
    if len(names := json_rows.row_lists(value)) > 1:
        raise UserError(
            f"{label}: one object with several lists of rows: {', '.join(names)}. Write the one to train on "
            f"as the rows, for example jq -c '{jq_path(names[0])}[]'."
        )
    return json_rows.wrapped(value)


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
