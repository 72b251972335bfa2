"""What is counted of rows."""

import pyarrow as pa

from sft.core.row_schema import MESSAGES, standard_table
from sft.data import profile as module
from sft.data.profile import profile


def message(role, content="x", **more):
    return {"role": role, "content": content, **more}


ROWS = [
    [message("system"), message("user"), message("assistant")],
    [
        message("user"),
        message("assistant", reasoning="hm"),
        message("user"),
        message("assistant", trained=False),
    ],
    [message("user"), message("assistant", "", tool_calls="[]"), message("tool")],
    [message("user"), message("assistant"), message("user")],
    [message("user"), message("assistant", trained=True)],
]


def test_counts(monkeypatch):
    table = standard_table(pa.array(ROWS, MESSAGES), "made")
    found = profile(table)
    assert found.rows == 5
    assert found.messages == {"user": 7, "assistant": 6, "system": 1, "tool": 1}
    assert found.rows_with == {"system": 1, "user": 5, "assistant": 5, "tool": 1}
    assert found.answers == {1: 4, 2: 1}
    assert found.ends_on == {"assistant": 3, "tool": 1, "user": 1}
    assert found.extras == {"reasoning": 1, "tool_calls": 1, "untrained": 1}
    monkeypatch.setattr(module, "_BATCH", 2)
    assert profile(table) == found


def test_tools():
    table = standard_table(pa.array(ROWS[:2], MESSAGES), "made")
    place = table.column_names.index("tools")
    table = table.set_column(place, "tools", pa.array(["[]", None], pa.string()))
    assert profile(table).extras["tools"] == 1
