"""The standardized row: its Arrow schema and its content hash."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
WIDE_MESSAGES = pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))

# `item` is what the row's answer is made from (a recipe, a gloss, a dialogue): the unit of hold-out.
# `task` names the evaluation task whose form the row has, if any.
SCHEMA = pa.schema(
    [
        ("messages", MESSAGES),
        ("source", pa.string()),
        ("id", pa.string()),
        ("item", pa.string()),
        ("task", pa.string()),
    ]
)


def content_ids(messages: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Hash each conversation to 32 hex digits of xxh3_128.

    The hashed text joins `role:bytes:content` of every message; the length makes it unambiguous, so
    two conversations share an id only if roles and contents are equal.
    """
    if isinstance(messages, pa.ChunkedArray):
        chunks = [content_ids(chunk) for chunk in messages.chunks]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())
    flat = messages.flatten()
    content = flat.field("content")
    length = pc.cast(pc.binary_length(pc.cast(content, pa.binary())), pa.string())
    texts = pc.binary_join_element_wise(flat.field("role"), length, content, ":")
    # flatten() drops the slots of empty or null lists, so offsets are rebuilt from the lengths.
    sizes = pc.fill_null(pc.list_value_length(messages), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(sizes).cast(pa.int32())])
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), "")
    digest = xxhash.xxh3_128_hexdigest
    return pa.array([digest(text.encode()) for text in joined.to_pylist()], pa.string())


def take_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Take rows by number; the messages come with 64-bit offsets.

    Arrow joins a column's chunks to take from them, and 32-bit offsets overflow beyond 2 GiB of text.
    """
    place = table.column_names.index("messages")
    wide = table["messages"].cast(WIDE_MESSAGES)
    return table.set_column(place, "messages", wide).take(pa.array(rows))


def standard_table(
    messages: pa.Array | pa.ChunkedArray,
    source: str,
    items: list[str] | pa.Array | None = None,
    tasks: list[str | None] | pa.Array | None = None,
) -> pa.Table:
    """Build a table of SCHEMA from conversations; without `items` each row is its own item."""
    ids = content_ids(messages)
    rows = len(ids)
    return pa.table(
        {
            "messages": messages,
            "source": pa.array([source] * rows, pa.string()),
            "id": ids,
            "item": ids if items is None else pa.array(items, pa.string()),
            "task": pa.nulls(rows, pa.string()) if tasks is None else pa.array(tasks, pa.string()),
        },
        schema=SCHEMA,
    )
