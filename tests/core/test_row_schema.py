"""The standardized row: what its id covers, and how a chat template takes it."""

import json

import numpy as np
import pyarrow as pa
import xxhash

from sft.core.row_schema import MESSAGES, SCHEMA, content_ids, conversation, standard_table, take_rows

CALLS = json.dumps([{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}])
TOOLS = json.dumps([{"type": "function", "function": {"name": "f", "parameters": {}}}])
PLAIN = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def ids(*conversations: list[dict], tools: list[str | None] | None = None) -> list[str]:
    given = None if tools is None else pa.array(tools, pa.string())
    return content_ids(pa.array(conversations, MESSAGES), given).to_pylist()


def answered(**fields: object) -> list[dict]:
    return [PLAIN[0], {**PLAIN[1], **fields}]


def test_a_plain_rows_id_is_of_its_roles_and_contents():
    wanted = xxhash.xxh3_128_hexdigest(b"user:1:qassistant:1:a")
    # Beside rows that have more, in one array, and marked as a row that trains: all the same.
    others = answered(reasoning="r", tool_calls=CALLS, trained=False)
    assert ids(PLAIN, answered(trained=True), others, tools=[None, None, TOOLS])[:2] == [wanted, wanted]


def test_the_id_covers_all_that_a_row_means():
    rows = [
        PLAIN,
        answered(reasoning="r"),
        answered(tool_calls=CALLS),
        answered(tool_call_id="r"),
        answered(name="r"),
        answered(trained=False),
        answered(content=""),
        # What looks like a field but is content.
        answered(content="a+reasoning:1:r"),
    ]
    found = ids(*rows, *rows, tools=[None] * len(rows) + [TOOLS] * len(rows))
    assert len(set(found)) == len(found)
    assert ids(*rows) == found[: len(rows)]


def test_messages_of_role_and_content_are_filled_up():
    plain = pa.array([PLAIN], pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    table = standard_table(plain, "made")
    assert table.schema == SCHEMA
    assert table.equals(standard_table(pa.array([PLAIN], MESSAGES), "made"))
    assert table["tools"].to_pylist() == [None]


def test_conversation_is_as_a_template_takes_it():
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "reasoning": "r", "tool_calls": CALLS, "trained": False},
        {"role": "tool", "content": "1", "tool_call_id": "7", "name": "f"},
        {"role": "assistant", "content": "a"},
    ]
    table = standard_table(pa.array([messages, PLAIN], MESSAGES), "made", tools=pa.array([TOOLS, None]))
    first, second = table.to_pylist()
    assert conversation(first) == (
        [
            messages[0],
            {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": json.loads(CALLS)},
            messages[2],
            messages[3],
        ],
        json.loads(TOOLS),
    )
    assert conversation(second) == (PLAIN, None)
    assert conversation({"messages": PLAIN}) == (PLAIN, None)


def test_rows_taken_are_whole():
    messages = pa.chunked_array([pa.array([PLAIN], MESSAGES), pa.array([answered(reasoning="r")], MESSAGES)])
    table = standard_table(messages, "made", tools=pa.chunked_array([["1", None]]))
    assert take_rows(table, np.array([1, 0])).to_pylist() == table.to_pylist()[::-1]
