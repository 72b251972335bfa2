"""The standardized row: its Arrow schema, its content hash, and how a chat template takes it."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

# Of a message without text `content` is the empty string, which only an assistant's with tool calls may be.
# `reasoning` is what an assistant thought before it answered. `tool_calls` is a JSON list in OpenAI's form,
# [{"id": ..., "type": "function", "function": {"name": ..., "arguments": {...}}}]; `tool_call_id` and `name`
# are of the call that a tool's message answers. `trained` is false for an assistant's message that the loss
# leaves out; where it is null, the params say. All but role and content are null where the source has none.
_OF_MESSAGE = ("role", "content", "reasoning", "tool_calls", "tool_call_id", "name")
MESSAGES = pa.list_(pa.struct([*((name, pa.string()) for name in _OF_MESSAGE), ("trained", pa.bool_())]))
WIDE_MESSAGES = pa.large_list(
    pa.struct([*((name, pa.large_string()) for name in _OF_MESSAGE), ("trained", pa.bool_())])
)

# `tools` is a JSON list of the tools that the assistant may call, in OpenAI's form.
# `kind` is a short name of the source and of the form of its rows, by which they can be weighted.
# `item` is what the row's answer is made from (a recipe, a word, a dialogue): the unit of hold-out.
# `task` names the evaluation task whose form the row has, if any.
# `question` is shared by rows that answer one question: each answer is right. Null: the row stands alone.
# `related` are what else the row gives away: it leaves training with any item that gives away the same.
SCHEMA = pa.schema(
    [
        ("messages", MESSAGES),
        ("tools", pa.string()),
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


def content_ids(
    messages: pa.ChunkedArray | pa.Array, tools: pa.ChunkedArray | pa.Array | None = None
) -> pa.Array:
    """Hash each conversation, with its tools, to 32 hex digits of xxh3_128.

    The hashed text joins `role:bytes:content` of every message, and behind it `+name:bytes:value` of each of
    its further fields that is not null (`trained` where it is false), and of the row's tools; the lengths
    make it unambiguous, so two rows share an id only if all of these are equal. `messages` may have role and
    content only.
    """
    if isinstance(messages, pa.ChunkedArray):
        chunks, start = [], 0
        for chunk in messages.chunks:
            of_chunk = None if tools is None else tools.slice(start, len(chunk))
            chunks.append(content_ids(chunk, of_chunk))
            start += len(chunk)
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())
    flat = messages.flatten()
    content = pc.fill_null(flat.field("content"), "")
    parts = [pc.binary_join_element_wise(flat.field("role"), _bytes(content), content, ":")]
    for number in range(flat.type.num_fields):
        name, values = flat.type.field(number).name, flat.field(number)
        if name not in ("role", "content") and values.null_count < len(values):
            parts.append(_field(name, values))
    texts = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "")
    # flatten() drops the slots of empty or null lists, so offsets are rebuilt from the lengths.
    sizes = pc.fill_null(pc.list_value_length(messages), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(sizes).cast(pa.int32())])
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), "")
    if tools is not None and tools.null_count < len(tools):
        tools = tools.combine_chunks() if isinstance(tools, pa.ChunkedArray) else tools
        joined = pc.binary_join_element_wise(joined, _field("tools", tools), "")
    return _hashes(joined)


def _hashes(texts: pa.Array) -> pa.Array:
    """Hash texts where they lie: to make Python's strings of them copies each twice."""
    assert not texts.null_count
    texts = texts.cast(pa.large_binary())
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1].tolist()
    bytes_of, digest = memoryview(data or b""), xxhash.xxh3_128_hexdigest
    return pa.array([digest(bytes_of[begin:end]) for begin, end in pairwise(ends)], pa.string())


def _bytes(texts: pa.Array) -> pa.Array:
    return pc.cast(pc.binary_length(pc.cast(texts, pa.binary())), pa.string())


def _field(name: str, values: pa.Array) -> pa.Array:
    """Return `+name:bytes:value`, the empty text where the value is null. No role begins with a plus."""
    if pa.types.is_boolean(values.type):
        values = pc.if_else(pc.fill_null(values, True), pa.scalar(None, pa.string()), "false")
    text = pc.binary_join_element_wise(f"+{name}", _bytes(values), values, ":")
    return pc.fill_null(text, "")


def conversation(row: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Return a row's messages and tools as the `apply_chat_template` of transformers takes them.

    `row` is as `to_pylist` gives it: `messages`, and `tools` where that column was read. What is null is left
    out; tool calls and tools are parsed; reasoning is `reasoning_content`; `trained` is for the loss, not for
    a template.
    """
    messages = []
    for message in row["messages"]:
        told = {"role": message["role"], "content": message["content"] or ""}
        if message.get("reasoning") is not None:
            told["reasoning_content"] = message["reasoning"]
        if message.get("tool_calls") is not None:
            told["tool_calls"] = json.loads(message["tool_calls"])
        for key in ("tool_call_id", "name"):
            if message.get(key) is not None:
                told[key] = message[key]
        messages.append(told)
    tools = row.get("tools")
    return messages, json.loads(tools) if tools is not None else None


def take_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Take rows by number; messages and tools come with 64-bit offsets.

    Arrow joins a column's chunks to take from them, and 32-bit offsets overflow beyond 2 GiB of text.
    """
    for name, wide in (("messages", WIDE_MESSAGES), ("tools", pa.large_string())):
        if name in table.column_names:
            place = table.column_names.index(name)
            table = table.set_column(place, name, table[name].cast(wide))
    return table.take(pa.array(rows))


def standard_table(
    messages: pa.Array | pa.ChunkedArray,
    source: str,
    items: list[str] | pa.Array | None = None,
    tasks: list[str | None] | pa.Array | None = None,
    kinds: str | list[str] | None = None,
    questions: list[str | None] | None = None,
    related: list[list[str]] | None = None,
    tools: pa.Array | pa.ChunkedArray | None = None,
) -> pa.Table:
    """Build a table of SCHEMA from conversations; without `items` each row is its own item.

    The messages may have role and content only: what else MESSAGES has is then null.
    `kinds` is the kind of all rows, or a list of each row's; without it the source's name.
    """
    ids = content_ids(messages, tools)
    rows = len(ids)
    kinds = source if kinds is None else kinds
    columns = {
        "messages": messages.cast(MESSAGES),
        "tools": pa.nulls(rows) if tools is None else tools,
        "source": pa.repeat(source, rows),
        "kind": pa.repeat(kinds, rows) if isinstance(kinds, str) else kinds,
        "id": ids,
        "item": ids if items is None else items,
        "task": pa.nulls(rows) if tasks is None else tasks,
        "question": pa.nulls(rows) if questions is None else questions,
        "related": pa.nulls(rows) if related is None else related,
    }
    return pa.table(columns, schema=SCHEMA)
