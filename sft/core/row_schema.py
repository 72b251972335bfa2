"""The standardized row: its Arrow schema and its content hash."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
WIDE_MESSAGES = pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))

# `kind` is a short name of the source and of the form of its rows, by which they can be weighted.
# `item` is what the row's answer is made from (a recipe, a word, a dialogue): the unit of hold-out.
# `task` names the evaluation task whose form the row has, if any.
# `question` is shared by rows that answer one question: each answer is right. Null: the row stands alone.
# `related` are what else the row gives away: it leaves training with any item that gives away the same.
SCHEMA = pa.schema(
    [
        ("messages", MESSAGES),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("id", pa.string()),
        ("item", pa.string()),
        ("task", pa.string()),
        ("question", pa.string()),
        ("related", pa.list_(pa.string())),
    ]
)
# What only the hold-out reads: not among the columns of the rows that it leaves.
HOLDOUT_ONLY = ["question", "related"]


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
    kinds: str | list[str] | None = None,
    questions: list[str | None] | None = None,
    related: list[list[str]] | None = None,
) -> pa.Table:
    """Build a table of SCHEMA from conversations; without `items` each row is its own item.

    `kinds` is the kind of all rows, or a list of each row's; without it the source's name.
    """
    ids = content_ids(messages)
    rows = len(ids)
    kinds = source if kinds is None else kinds
    columns = {
        "messages": messages,
        "source": pa.repeat(source, rows),
        "kind": pa.repeat(kinds, rows) if isinstance(kinds, str) else kinds,
        "id": ids,
        "item": ids if items is None else items,
        "task": pa.nulls(rows) if tasks is None else tasks,
        "question": pa.nulls(rows) if questions is None else questions,
        "related": pa.nulls(rows) if related is None else related,
    }
    return pa.table(columns, schema=SCHEMA)
