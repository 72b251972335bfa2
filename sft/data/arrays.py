"""What is in an array of raw values, whatever its type: texts, lists, anything at all."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.data.row_reasons import NUMBERS, RowReason

# What a part of a content may be called, and hold its text in.
_TEXT_PARTS = ["text", "input_text", "output_text"]
PART_KEYS = ("text", "value", "content")
# A part that is a thought, and where it has it.
THINKING = "thinking"
_MEDIA = r"image|video|audio"
_NULLS = 65_536  # the rows of a column of nulls that are in memory


def text(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return a column's texts, null where there is none, and by number the fault of those that are no text.

    Lists are taken for the parts of a content and joined, if all of them are texts.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if is_list(kind):
        return _joined_parts(column)
    if is_text(kind) or pa.types.is_null(kind):
        return column.cast(pa.string()), np.zeros(len(column), np.int8)
    not_text = np.int8(NUMBERS[RowReason.CONTENT_IS_NOT_TEXT])
    return pa.nulls(len(column), pa.string()), mask(pc.is_valid(column)) * not_text


def thoughts(column: pa.Array) -> pa.Array:
    """Return the thoughts among the parts of contents, joined; null where there are none."""
    inner = column.type.value_type if is_list(column.type) else column.type
    if not is_list(column.type) or not pa.types.is_struct(inner) or inner.get_field_index(THINKING) < 0:
        return pa.nulls(len(column), pa.string())
    texts = pc.fill_null(said(pc.struct_field(pc.list_flatten(column), THINKING)), "")
    return said(pc.binary_join(list_array(lengths(column), texts, pa.list_(pa.string())), ""))


def blank(content: pa.Array) -> np.ndarray:
    """Return a mask of the texts that are missing, empty or only white space."""
    empty = pc.or_(pc.equal(pc.binary_length(content), 0), pc.utf8_is_space(content))
    return mask(pc.fill_null(empty, True))


def said(column: pa.Array) -> pa.Array:
    """Return a column's texts, null where they are blank or no text at all."""
    texts, _ = text(column)
    return pc.if_else(pa.array(blank(texts)), pa.scalar(None, pa.string()), texts)


def anywhere(texts: pa.Array, *wanted: str) -> bool:
    """Tell whether a text may hold one of `wanted`: quick, where looking at each text is slow."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return False
    ends = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset)
    any_of = b"|".join(re.escape(one.encode()) for one in wanted)
    return re.search(any_of, memoryview(data)[ends[0] : ends[-1]]) is not None


def is_list(kind: pa.DataType) -> bool:
    """Tell whether the type is any of Arrow's list types."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether the type is any of Arrow's string types, perhaps behind a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def has_value(column: pa.Array) -> np.ndarray:
    """Return a mask of the rows in which a column holds something: not null, nor an empty text or list."""
    if is_list(column.type):
        return lengths(column) > 0
    if is_text(column.type):
        return ~blank(column.cast(pa.string()))
    return mask(pc.is_valid(column))


def list_array(lengths: np.ndarray, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Build lists of these lengths from consecutive values."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)


def _joined_parts(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    parts = pc.list_flatten(column)
    fault = np.zeros(len(parts), np.int8)
    words = parts
    if pa.types.is_struct(parts.type):
        names = [field.name for field in parts.type]
        nothing = pa.nulls(len(parts), pa.string())
        texts = [text(pc.struct_field(parts, key))[0] for key in PART_KEYS if key in names]
        words = pc.coalesce(*texts, nothing)
        kind = text(pc.struct_field(parts, "type"))[0] if "type" in names else nothing
        # A part that says no type is a text where it has one.
        is_words = mask(pc.fill_null(pc.is_in(kind, value_set=pa.array(_TEXT_PARTS)), False))
        is_words = np.where(mask(pc.is_null(kind)), mask(pc.is_valid(words)), is_words)
        if THINKING in names:
            thought = pc.fill_null(pc.equal(kind, THINKING), False)
            words, is_words = pc.if_else(thought, "", words), is_words | mask(thought)
        media = mask(pc.fill_null(pc.match_substring_regex(kind, _MEDIA), False))
        for name in names:
            if name in ("image", "image_url", "video", "audio"):
                media |= has_value(pc.struct_field(parts, name))
        fault[~is_words] = NUMBERS[RowReason.CONTENT_IS_NOT_TEXT]
        fault[media] = NUMBERS[RowReason.MULTIMODAL]
    elif is_list(parts.type):
        words, fault = pa.nulls(len(parts), pa.string()), fault + NUMBERS[RowReason.CONTENT_IS_NOT_TEXT]
    else:
        words, fault = text(parts)
    sizes = lengths(column)
    whole = pc.binary_join(list_array(sizes, words, pa.list_(pa.string())), "")
    missing = pa.scalar(None, pa.string())
    whole = pc.if_else(pc.is_valid(column), whole, missing)
    of_row = np.zeros(len(column), np.int8)
    at = np.repeat(np.arange(len(column)), sizes)
    for number in (NUMBERS[RowReason.CONTENT_IS_NOT_TEXT], NUMBERS[RowReason.MULTIMODAL]):
        of_row[at[fault == number]] = number
    return pc.if_else(pa.array(of_row > 0), missing, whole), of_row


def lengths(column: pa.Array) -> np.ndarray:
    """Return the lengths of lists, 0 where there is none."""
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)


def mask(column: pa.Array) -> np.ndarray:
    """Return booleans as a mask."""
    return column.to_numpy(zero_copy_only=False).astype(bool)


def nulls(rows: int, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column of nulls that takes next to no memory, however many rows it has."""
    some = pa.nulls(min(rows, _NULLS), kind)
    return pa.chunked_array([some.slice(0, rows - start) for start in range(0, rows, _NULLS)], kind)
