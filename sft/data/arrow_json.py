"""JSON Lines by Arrow's own reader: fast, where it takes the lines as they are."""

import math
import re
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from sft.data.arrays import is_list, is_text
from sft.data.columns import READ, TOOLS, WRAPPERS
from sft.data.message_columns import CALL_KEYS

# Deeper than this Arrow's JSON parser may end the process; Python's says that it is too deep.
DEEPEST = 500
# A block that is so long has a very long line, which is read by Python.
_LONGEST = 32 << 20
# Arrow gives every object all keys of the others: 10,000 rows of a key each took 8 s and 1.4 GB, and more
# take the square of that. Where this share of the keys has more than so many, rows are read one by one.
_SHARE, _KEYS = 0.05, 100
_PIECE = 512  # bytes, so that of keys that stand together some are drawn
_COLON, _SPACE = re.compile(b":"), ord(" ")
_OBJECT = re.compile(rb"\s*\{")
_BRACKETS = b"[]{}\n"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))


def table(block: bytes, known: pa.Schema | None = None) -> pa.Table:
    """Read a block of JSON Lines by Arrow; raises ArrowInvalid where it cannot: bad lines, mixed types.

    Columns of the schema `known` come first and have its types, widened where the block needs it.
    """
    try:
        read = _parsed(block, known)
    except pa.ArrowInvalid:
        if known is None:
            raise
        # Some column has another type here, which may still merge with the one it has elsewhere.
        found = _parsed(block, None).schema
        try:
            schema = pa.unify_schemas([known, found], promote_options="permissive")
        except pa.ArrowException as error:
            raise pa.ArrowInvalid(str(error)) from None
        read = _parsed(block, schema)
    # The parser does not look at the encoding: an ArrowInvalid from here leads to the decoder's own error.
    read.validate(full=True)
    # A line `null` comes out as a row without values, as `{}` does: the slow path tells them apart.
    empty = reduce(pc.and_, (pc.is_null(column) for column in read.columns)) if read.columns else None
    if empty is None or pc.any(empty).as_py():
        raise pa.ArrowInvalid("a line holds no values")
    return read


def _parsed(block: bytes, known: pa.Schema | None) -> pa.Table:
    read = _read(block, known)
    schema = pa.schema([field.with_type(_as_text(field.type)) for field in read.schema])
    # Arrow takes strings that look like dates for timestamps; told the types, it keeps the text.
    return read if schema == read.schema else _read(block, schema)


def _read(block: bytes, known: pa.Schema | None) -> pa.Table:
    return pa.json.read_json(
        pa.BufferReader(block),
        # A line is never cut: what is read at once has the whole block. One thread, for files and parts of
        # them are read at the same time.
        read_options=pa.json.ReadOptions(block_size=len(block) + 1, use_threads=False),
        parse_options=pa.json.ParseOptions(explicit_schema=known),
    )


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


class Safety:
    """Tells whether Arrow's reader is safe with a file: it is not nested deeply, and its keys are few."""

    def __init__(self) -> None:
        # Drawn at random, so that no file can be made in which all keys that are looked at are the same.
        # However a file is read, its rows are the same.
        self._draw = np.random.default_rng()
        self._keys: set[bytes] = set()

    def holds(self, block: bytes) -> bool:
        """Tell whether the next block of lines is safe too, after those before it."""
        # On `null` as its first value Arrow's parser ends the process.
        if len(block) > _LONGEST or not _OBJECT.match(block):
            return False
        self._keys |= _some_keys(block, self._draw)
        return len(self._keys) <= _KEYS and _depth(block) <= DEEPEST


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
    """Return a share of the keys of objects, and of what looks like one in a text.

    Pieces of the block are drawn and all keys that end in them taken: to draw from all keys of the block
    would take as long as to parse it.
    """
    pieces = max(1, math.ceil(len(block) / _PIECE))
    starts = np.flatnonzero(draw.random(pieces, np.float32) < _SHARE) * _PIECE
    keys = set()
    for start in starts.tolist():
        for colon in _COLON.finditer(block, start, min(start + _PIECE, len(block))):
            end = colon.start()
            while end and block[end - 1] <= _SPACE:
                end -= 1
            if block[end - 1 : end] != b'"':
                continue
            end -= 1
            begin = block.rfind(b'"', 0, end) + 1
            escaped = block[begin - 2 : begin - 1] == b"\\" or block[end - 1 : end] == b"\\"
            # Where the quote before it is a part of the key, the key begins further back.
            keys.add(block[max(0, end - 100) : end] if escaped else block[begin:end])
        if len(keys) > _KEYS:
            break
    return keys


def is_exact(schema: pa.Schema) -> bool:
    """Tell whether all objects that are kept as they are have the same keys, as Arrow has it.

    Of tools and of the arguments of tool calls Arrow makes one type with the keys of all.
    """
    for column in schema:
        kind = column.type
        if column.name.lower() in (*TOOLS, "answers") and not is_text(kind) and not pa.types.is_null(kind):
            return False
        inner = kind.value_type if is_list(kind) else kind
        if column.name.lower() in READ and pa.types.is_struct(inner):
            for call in (key for key in CALL_KEYS if key in {one.name for one in inner}):
                if not _is_plain_call(inner.field(call).type):
                    return False
    return True


def may_wrap(schema: pa.Schema) -> bool:
    """Tell whether one object of such columns may have the file's rows in it."""
    return any(name.lower() in WRAPPERS for name in schema.names)


def _is_plain_call(kind: pa.DataType) -> bool:
    """Tell whether tool calls have nothing nested but their functions."""
    if is_list(kind):
        return _is_plain_call(kind.value_type)
    if not pa.types.is_struct(kind):
        return True
    nested = [one for one in kind if pa.types.is_nested(one.type)]
    return all(one.name == "function" and _is_plain_call(one.type) for one in nested)
