"""Files of columns and values drawn at random: each row is one or a reject, or the file is refused."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft.core.errors import UserError
from sft.core.row_schema import conversation
from sft.data.columns import MEDIA, READ
from sft.data.layouts import LAYOUTS
from sft.data.message_columns import CONTENT_KEYS, KEYS, ROLE_KEYS
from sft.data.sources import load

SCALARS = [None, "", "q", "<think>r</think>a", " ", 1, 0, 1.5, True, False, float("nan"), 10**30, "\ud800"]
TEXTS = ["[]", '{"name": "f"}', "2024-01-01", "\n\nHuman: a\n\nAssistant: b", "<image>", "null", "é"]
ROLES = ["user", "human", "assistant", "gpt", "tool", "function_call", "system", None, "narrator"]


def value(draw: random.Random, depth: int) -> Any:
    kind = draw.random()
    if not depth or kind < 0.5:
        return draw.choice(SCALARS if draw.random() < 0.4 else TEXTS)
    if kind < 0.7:
        return [value(draw, depth - 1) for _ in range(draw.randint(0, 3))]
    if kind < 0.9:
        keys = [*KEYS, "name", "function", "arguments", "type"]
        return {draw.choice(keys): value(draw, depth - 1) for _ in range(draw.randint(0, 4))}
    return messages(draw)


def messages(draw: random.Random) -> list[dict]:
    made = []
    for _ in range(draw.randint(0, 4)):
        content = draw.choice(["q", "a", "", None, [{"type": "text", "text": "x"}], value(draw, 2)])
        message = {draw.choice(ROLE_KEYS): draw.choice(ROLES), draw.choice(CONTENT_KEYS): content}
        made.append(message | {draw.choice(KEYS): value(draw, 2) for _ in range(draw.randint(0, 2))})
    return made


def rows(draw: random.Random) -> list[dict]:
    """Draw rows of a layout and other columns, each of one shape but for a few values."""
    columns = dict(draw.choice(LAYOUTS).example[0])
    columns |= dict.fromkeys(draw.sample(sorted({*READ, *MEDIA, "id", "source"}), draw.randint(0, 3)))
    shapes = {name: draw.choice(["text", "text", "any", "pairs", "flag"]) for name in columns}
    shapes |= {name: "messages" for name, example in columns.items() if isinstance(example, list)}
    made = []
    for _ in range(draw.randint(1, 6)):
        row: dict[str, Any] = {}
        for name, shape in shapes.items():
            if draw.random() < 0.05:
                shape = "any"
            row[name] = {
                "text": lambda: draw.choice(["q", "a", None]),
                "messages": lambda: messages(draw),
                "any": lambda: value(draw, 3),
                "pairs": lambda: [["a", "b"]],
                "flag": lambda: draw.random() < 0.5,
            }[shape]()
        made.append(row)
    return made


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_no_file_ends_in_a_traceback(ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw, path, read = random.Random(ending), Path(f"my.{ending}"), 0
    for _ in range(800):
        made = rows(draw)
        try:
            if ending == "parquet":
                pq.write_table(pa.Table.from_pylist(made), path)
        except (pa.ArrowException, OverflowError, UnicodeError):
            continue  # no such file can be written
        if ending != "parquet":
            path.write_text(json.dumps(made) if ending == "json" else "\n".join(map(json.dumps, made)))
        for choice in ("", "#chosen"):
            try:
                loaded = load(f"{path}{choice}")
            except UserError as error:
                assert str(path) in str(error)
                continue
            read += 1
            assert len(loaded.table) + len(loaded.rejects) + sum(loaded.skipped.values()) == len(made)
            for row in loaded.table.to_pylist():
                told, _ = conversation(row)
                assert all(
                    message["content"] or message.get("tool_calls") or message["role"] == "tool"
                    for message in told
                )
    assert read > 30
