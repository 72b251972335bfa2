"""JSON Lines by Arrow's own reader: fast, where it takes the lines as they are."""

from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from sft.data import text_files
from sft.data.arrays import is_list, is_text
from sft.data.columns import READ, TOOLS, WRAPPERS
from sft.data.message_columns import CALL_KEYS

# Deeper than this Arrow's JSON parser may end the process; Python's says that it is too deep.
DEEPEST = 500
# Arrow gives every object all keys of the others: 10,000 rows of a key each took 8 s and 1.4 GB, and more
# take the square of that. Where this share of the keys has more than so many, rows are read one by one.
_SHARE, _KEYS = 0.05, 100
_BRACKETS = b"[]{}\n"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))


def read_lines(path: Path) -> pa.Table:
    """Read JSON Lines by Arrow; raises ArrowInvalid where it cannot: bad lines, mixed types, long lines."""
    options = pa.json.ReadOptions(block_size=text_files.BLOCK)
    with text_files.open_text(path) as stream:
        table = pa.json.read_json(stream, read_options=options)
    schema = pa.schema([field.with_type(_as_text(field.type)) for field in table.schema])
    if schema != table.schema:
        # Arrow takes strings that look like dates for timestamps; told the types, it keeps the text.
        parse = pa.json.ParseOptions(explicit_schema=schema)
        with text_files.open_text(path) as stream:
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


def can_read(path: Path, label: str) -> bool:
    """Tell whether Arrow's reader is safe with a file: it is not nested deeply, and its keys are few.

    Raises UserError where the file unpacks to far more than any text does.
    """
    # Drawn at random, so that no file can be made in which all keys that are looked at are the same. However
    # a file is read, its rows are the same.
    draw, keys = np.random.default_rng(), set[bytes]()
    for block in text_files.blocks_of_lines(path, label):
        if len(block) > 2 * text_files.BLOCK:  # one of its lines is longer than Arrow's reader takes
            return False
        keys |= _some_keys(block, draw)
        if len(keys) > _KEYS or _depth(block) > DEEPEST:
            return False
    return True


def _depth(block: bytes) -> int:
    """Return how deep the brackets of any line go, those in texts included: no less than what is nested."""
    signs = np.frombuffer(block.translate(None, _NO_BRACKETS), np.uint8)
    ends = signs == ord("\n")
    step = np.where((signs == ord("[")) | (signs == ord("{")), 1, -1)
    # At each end of a line far down, so that what is closed in one line says nothing of the next.
    step[ends] = -len(block)
    depth = np.cumsum(step)
    return 1 + int((depth - np.minimum.accumulate(depth)).max(initial=0))


def _some_keys(block: bytes, draw: np.random.Generator) -> set[bytes]:
    """Return a share of the keys of objects, and of what looks like one in a text."""
    signs = np.frombuffer(block, np.uint8)
    before, colon = signs[:-1], signs[1:] == ord(":")
    if (colon & (before <= ord(" "))).any():
        block = block.translate(None, b" \t\r")
        signs = np.frombuffer(block, np.uint8)
        before, colon = signs[:-1], signs[1:] == ord(":")
    ends = np.flatnonzero(colon & (before == ord('"')))
    keys = set()
    for end in ends[draw.random(len(ends), np.float32) < _SHARE].tolist():
        start = block.rfind(b'"', 0, end) + 1
        escaped = block[start - 2 : start - 1] == b"\\" or block[end - 1 : end] == b"\\"
        # Where the quote before it is a part of the key, the key begins further back.
        keys.add(block[max(0, end - 100) : end] if escaped else block[start:end])
    return keys


def is_exact(table: pa.Table) -> bool:
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
