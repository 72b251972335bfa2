"""JSON and JSON Lines to raw Arrow tables: lines by Arrow where it can, anything else by Python.

Types that all rows have in common come first. Of a large file they take a pass of their own; of another the
rows are kept in memory while the file is looked at.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from sft.data import arrow_json, json_blocks, json_tables, text_files
from sft.data.columns import LABELS
from sft.data.flags import Verdicts
from sft.data.json_blocks import Block
from sft.data.json_tables import Shape
from sft.data.layouts import label_columns, with_flags
from sft.data.raw_rows import Part, Raw, UnreadableFile, in_batches, joined

# A file of lines beyond this size is cut into parts, and one of any kind is not kept in memory.
_LARGE = 192 << 20
# Blocks are put together to batches of so many rows or bytes.
_ROWS, _BYTES = 8_192, 32 << 20


@dataclass(frozen=True)
class _Common:
    """What follows from a whole file: the columns as Arrow reads them, or the shape that Python finds.

    `label` is the column of labels that holds verdicts, if any.
    """

    schema: pa.Schema | None
    shape: Shape | None
    label: str | None


@dataclass
class _Places:
    """Where parts of a file begin: their first bytes, and the numbers of their first rows or lines."""

    size: int
    found: list[tuple[int, int]]

    def pass_by(self, at: int, number: int) -> None:
        """Begin a part here if the last one has its size."""
        if not self.found or at - self.found[-1][0] >= self.size:
            self.found.append((at, number))


def parts(whole: Part, size: int) -> list[Part]:
    """Cut a large file of lines into parts of some `size` bytes; one that is compressed, or an array, is one.

    Raises UnreadableFile where it is no text in UTF-8, and what `read` raises of the files that are cut.
    """
    with _readable(whole):
        first = text_files.first_character(whole.path, whole.label)
        if first != "{" or text_files.is_packed(whole.path) or whole.size <= _LARGE:
            return [whole]
        places = _Places(size, [])
        common, _ = _common(whole, first, 0, places)
        if len(places.found) == 1:  # perhaps one object, which has no lines to be cut at
            return [replace(whole, common=common)]
        ends = [*(at for at, _ in places.found[1:]), whole.size]
        return [
            Part(whole.path, whole.label, end - at, (at, end), number, common)
            for (at, number), end in zip(places.found, ends, strict=True)
        ]


def read(part: Part) -> Iterator[Raw]:
    """Yield a part's rows.

    Raises UnreadableFile where it is no JSON or not UTF-8, and UserError for what is, in a form that is not
    read: lists as lines, several lists of rows, more keys or more rejects than a file may have.
    """
    with _readable(part):
        common, first = part.common, "{"
        raws: Iterable[Raw] | None = None
        if common is None:
            first = text_files.first_character(part.path, part.label)
            common, raws = _common(part, first, _LARGE, _Places(part.size, []))
        if raws is None:
            raws = _parsed(part, common, first)
        for raw in _gathered(raws):
            raw.table = with_flags(raw.table, common.label)
            yield from in_batches(raw)


@contextmanager
def _readable(part: Part) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise text_files.not_utf8(part.path, part.label) from error
    except OSError as error:
        if not text_files.is_packed(part.path):
            raise
        raise UnreadableFile(
            f"{part.label}: cannot be decompressed: truncated, or not what its name says ({error}). "
            "Delete it and fetch or make it again."
        ) from error


def _common(part: Part, first: str, keep: int, places: _Places) -> tuple[_Common, list[Raw] | None]:
    """Pass over a whole file that begins with this character; return its rows too if they are few."""
    if first == "{" and (by_arrow := _common_by_arrow(part, keep, places)):
        return by_arrow
    places.found.clear()

    def blocks() -> Iterator[Block]:
        for block in json_blocks.of_file(part.path, part.label, first == "["):
            places.pass_by(block.at, block.number)
            yield block

    shape, raws = json_tables.learn(_Again(blocks), keep, part.label)
    return _Common(None, shape, shape.label), raws


def _common_by_arrow(part: Part, keep: int, places: _Places) -> tuple[_Common, list[Raw] | None] | None:
    """Do so by Arrow; None where it cannot read the file as it is."""
    safety, schema, rows = arrow_json.Safety(), None, 0
    raws: list[Raw] | None = []
    size, verdicts = 0, dict[str, Verdicts]()
    for at, text in text_files.line_blocks(part.path, part.label):
        if text.isspace():
            continue
        if not safety.holds(text):
            return None
        try:
            table = arrow_json.table(text, schema)
        except pa.ArrowInvalid:
            return None
        schema = table.schema
        if not arrow_json.is_exact(schema):
            return None
        places.pass_by(at, rows)
        for name in schema.names:
            if name.lower() in LABELS:
                verdicts.setdefault(name, Verdicts()).look(table[name])
        size += table.nbytes
        if raws is not None:
            raws = [*raws, Raw(table, range(rows, rows + len(table)))] if size <= keep else None
        rows += len(table)
    # A file of one object may have its rows in it.
    if schema is None or (rows == 1 and arrow_json.may_wrap(schema)):
        return None
    label = next((name for name in label_columns(schema) if verdicts.get(name)), None)
    return _Common(schema, None, label), json_tables.conformed_all(raws, schema)


def _parsed(part: Part, common: _Common, first: str) -> Iterator[Raw]:
    """Parse the rows of a part of which it is known what they have in common."""
    start, end = part.piece or (0, None)
    if common.schema is not None:
        number = part.first
        for _, text in text_files.line_blocks(part.path, part.label, start, end):
            if not text.isspace():
                table = arrow_json.table(text, common.schema)
                yield Raw(table, range(number, number + len(table)))
                number += len(table)
        return
    if part.piece is None:
        blocks = json_blocks.of_file(part.path, part.label, first == "[")
    else:
        blocks = json_blocks.of_lines(part.path, part.label, start, end, part.first)
    assert common.shape is not None
    yield from map(common.shape.table, blocks)


def _gathered(raws: Iterable[Raw]) -> Iterator[Raw]:
    """Put small batches together: each takes what standardizes it a time of its own."""
    held: list[Raw] = []
    rows = size = 0
    for raw in raws:
        held.append(raw)
        rows, size = rows + len(raw.table), size + raw.table.nbytes
        if rows >= _ROWS or size >= _BYTES:
            yield joined(held)
            held, rows, size = [], 0, 0
    if held:
        yield joined(held)


class _Again:
    """A file's blocks as often as they are asked for: kept if they are few, else parsed again."""

    def __init__(self, parse: Callable[[], Iterator[Block]]):
        self._parse = parse
        self._kept: list[Block] | None = None

    def __call__(self) -> Iterator[Block]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Block] | None = []
        size = 0
        for block in self._parse():
            size += block.size
            kept = [*kept, block] if kept is not None and size <= text_files.BLOCK else None
            yield block
        self._kept = kept
