"""The layouts that data files have: by which columns each is known, and what becomes of its fields.

The table in docs/data.md is made from LAYOUTS, and the tests read each one's examples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from sft.core.errors import UserError
from sft.data import layout_finders as finders
from sft.data.columns import REASONINGS, SYSTEMS, TOOLS, Columns, Used
from sft.data.message_columns import is_text


@dataclass(frozen=True)
class Layout:
    """A layout: how it is known, two rows as examples, and what becomes of each field.

    `find` returns the columns that are read, or None where the file is not of the layout. One that is refused
    says by `refused` what to do instead.
    """

    name: str
    known_by: str
    example: tuple[dict[str, Any], dict[str, Any]]
    fields: dict[str, str]
    find: Callable[[Columns], Used | None]
    refused: str = ""

    @property
    def is_preference(self) -> bool:
        """Tell whether the rows have answers that were preferred to others, which `#chosen` takes."""
        return self.find in finders.PREFERENCES


_FIRST = "the messages, in their order"
_CHOSEN = "`#chosen` behind the address (`data/raw/my.jsonl#chosen`) takes the chosen answers"
_PREFERENCE = f"It is preference data, and this pipeline trains on answers. {_CHOSEN}"

LAYOUTS = (
    Layout(
        "OpenAI messages",
        "`messages`: lists of `role` and `content`",
        (
            {
                "messages": [
                    {"role": "user", "content": "Salt?"},
                    {"role": "assistant", "content": "A pinch."},
                ]
            },
            {
                "messages": [
                    {"role": "user", "content": "Hot?"},
                    {"role": "assistant", "content": "No.", "weight": 0},
                    {"role": "user", "content": "Sure?"},
                    {"role": "assistant", "content": "Yes."},
                ]
            },
        ),
        {"messages": f"{_FIRST}; what else a message may have is below"},
        finders.openai,
    ),
    Layout(
        "ShareGPT",
        "`conversations` or `conversation`: lists of `from` and `value`",
        (
            {"conversations": [{"from": "human", "value": "Salt?"}, {"from": "gpt", "value": "A pinch."}]},
            {
                "conversations": [
                    {"from": "human", "value": "2+3?"},
                    {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2, "b": 3}}'},
                    {"from": "observation", "value": "5"},
                    {"from": "gpt", "value": "5."},
                ],
                "tools": '[{"name": "add", "parameters": {}}]',
            },
        ),
        {
            "conversations": f"{_FIRST}, roles by their names in the wild (human, gpt, observation ...); a "
            "message of `function_call` or `tool_call` becomes a tool call of the assistant"
        },
        finders.sharegpt,
    ),
    Layout(
        "pairs",
        "`prompt` and `completion` or `response`; `question` and `answer` or `response`",
        (
            {"prompt": "Salt?", "completion": "A pinch."},
            {"question": "How much?", "context": "The soup takes a pinch of salt.", "answer": "A pinch."},
        ),
        {
            "prompt, question": "the user's message (a list of messages is taken as such)",
            "context": "below the question, where it is text",
            "completion, response, answer": "the assistant's message",
        },
        finders.pair,
    ),
    Layout(
        "Alpaca",
        "`instruction` and `output`",
        (
            {"instruction": "Shorten.", "input": "Very long", "output": "Long"},
            {"instruction": "And pepper?", "output": "None.", "history": [["Salt?", "A pinch."]]},
        ),
        {
            "instruction": "the user's message",
            "input": "below the instruction",
            "output": "the assistant's message",
            "history": "pairs of a question and an answer: turns before the instruction",
        },
        finders.alpaca,
    ),
    Layout(
        "dolly",
        "`instruction` and `response`",
        (
            {
                "instruction": "How much salt?",
                "context": "Take a pinch.",
                "response": "A pinch.",
                "category": "qa",
            },
            {"instruction": "Name a spice.", "context": "", "response": "Pepper.", "category": "open_qa"},
        ),
        {
            "instruction": "the user's message",
            "context": "below the instruction",
            "response": "the assistant's message",
        },
        finders.dolly,
    ),
    Layout(
        "query and response",
        "`query` and `response`",
        (
            {"query": "Salt?", "response": "A pinch."},
            {"query": "And pepper?", "response": "None.", "history": [["Salt?", "A pinch."]]},
        ),
        {"query": "the user's message", "response": "the assistant's message", "history": "as Alpaca's"},
        finders.query,
    ),
    Layout(
        "xLAM",
        "`query`, `answers` and `tools`",
        (
            {
                "query": "2+3?",
                "tools": '[{"name": "add", "parameters": {}}]',
                "answers": '[{"name": "add", "arguments": {"a": 2, "b": 3}}]',
            },
            {
                "query": "1+1?",
                "tools": '[{"name": "add", "parameters": {}}]',
                "answers": '[{"name": "add", "arguments": {"a": 1, "b": 1}}]',
            },
        ),
        {
            "query": "the user's message",
            "answers": "the assistant's tool calls",
            "tools": "the tools",
        },
        finders.xlam,
    ),
    Layout(
        "DPO preferences",
        "`chosen` and `rejected`",
        (
            {"prompt": "Salt?", "chosen": "A pinch.", "rejected": "A pound."},
            {
                "chosen": [{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "No."}],
                "rejected": [{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "Stop."}],
            },
        ),
        {
            "prompt, question, instruction, query, messages": "with `#chosen`: what is asked",
            "chosen": "with `#chosen`: the answer, as text, a message or messages; a whole conversation, "
            "also as text with `Human:` and `Assistant:` (hh-rlhf), stands for itself",
            "rejected": "dropped",
        },
        finders.dpo,
        f"{_PREFERENCE}.",
    ),
    Layout(
        "ranked answers",
        "as Alpaca or pairs, with a list of texts as the answer",
        (
            {"instruction": "Salt?", "input": "", "output": ["A pinch.", "A pound."]},
            {"instruction": "Hot?", "input": "", "output": ["No.", "Go away."]},
        ),
        {"output": "with `#chosen`: the first is the answer; the others are dropped"},
        finders.ranked,
        f"{_PREFERENCE}, of each list the first.",
    ),
    Layout(
        "KTO labels",
        "`label` or `kto_tag`, true or false, beside any layout above",
        (
            {"prompt": "Salt?", "completion": "A pinch.", "label": True},
            {"prompt": "Salt?", "completion": "A pound.", "label": False},
        ),
        {"label, kto_tag": "with `#chosen`: rows with true are taken, the others skipped"},
        finders.kto,
        f"{_PREFERENCE}: the rows whose label is true. If the label says something else, rename its column.",
    ),
    Layout(
        "OASST trees",
        "`message_tree_id` and a `prompt` with `replies`",
        (
            {
                "message_tree_id": "1",
                "prompt": {
                    "text": "Salt?",
                    "role": "prompter",
                    "replies": [{"text": "A pinch.", "role": "assistant", "replies": []}],
                },
            },
            {
                "message_tree_id": "2",
                "prompt": {
                    "text": "Hot?",
                    "role": "prompter",
                    "replies": [{"text": "No.", "role": "assistant", "replies": []}],
                },
            },
        ),
        {},
        finders.oasst_trees,
        "A row is a tree of answers. Choose a path through each, such as the replies of rank 0, and write it "
        "as messages.",
    ),
    Layout(
        "OASST messages",
        "`message_id`, `parent_id`, `text` and `role`",
        (
            {"message_id": "1", "parent_id": None, "text": "Salt?", "role": "prompter"},
            {"message_id": "2", "parent_id": "1", "text": "A pinch.", "role": "assistant"},
        ),
        {},
        finders.oasst_messages,
        "A row is one message of a tree. Follow parent_id from the answers of rank 0 up to the root, and "
        "write each path as messages.",
    ),
    Layout(
        "Gemini contents",
        "`contents`: lists of `role` and `parts`",
        (
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "Salt?"}]},
                    {"role": "model", "parts": [{"text": "A pinch."}]},
                ]
            },
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "Hot?"}]},
                    {"role": "model", "parts": [{"text": "No."}]},
                ]
            },
        ),
        {},
        finders.gemini,
        "Write contents as messages, and of each message the texts of its parts as content.",
    ),
    Layout(
        "nested columns",
        "a column of objects that themselves have a layout",
        (
            {"id": 1, "row": {"prompt": "Salt?", "completion": "A pinch."}},
            {"id": 2, "row": {"prompt": "Hot?", "completion": "No."}},
        ),
        {},
        finders.nested,
        "The rows lie within the column {nested}. Write what is in it as the rows (jq -c '.{nested}'), or "
        "name it messages where it holds such.",
    ),
    Layout(
        "pretraining text",
        "`text` or `content`, and nothing that asks",
        ({"text": "Once upon a time there was salt."}, {"text": "A pinch was enough."}),
        {},
        finders.plain_text,
        "It has neither questions nor answers, and this pipeline trains on answers. Where a chat is written "
        "out in the text, write it as messages.",
    ),
)


@dataclass(frozen=True)
class Found:
    """The layout that a file has, and its columns by what they are read as."""

    layout: Layout
    used: Used = field(default_factory=dict)


def known(schema: pa.Schema) -> Found | None:
    """Return the layout that columns have, or None. Preference data is that first of all."""
    columns = Columns(schema)
    for layout in sorted(LAYOUTS, key=lambda layout: not layout.is_preference):
        used = layout.find(columns)
        if used is not None:
            return Found(layout, used)
    return None


def found(schema: pa.Schema, label: str, chosen: bool = False) -> Found:
    """Return the layout that a file's columns have, with all columns that are read.

    With `chosen` preference data is read as its chosen answers. Raises UserError, naming the file by `label`,
    for a layout that is refused or unknown, and for chosen answers where there are none.
    """
    columns = Columns(schema)
    layout = known(schema)
    if len({field.name for field in schema}) < len(schema):
        raise UserError(f"{label}: several columns have one name. Found: {columns}. Rename them.")
    if layout is None:
        raise UserError(
            f"{label}: the columns have no layout that is understood. Found: {columns}. "
            f"Understood: {UNDERSTOOD}. Rename the columns, or write the rows as messages."
        )
    if chosen and not layout.layout.is_preference:
        raise UserError(
            f"{label}: #chosen takes the chosen answers of preference data, but this is "
            f"{layout.layout.name}. Found: {columns}. Leave it out."
        )
    if layout.layout.refused and not chosen:
        advice = layout.layout.refused.replace("{nested}", layout.used.get("nested", "")).replace("`", "")
        raise UserError(f"{label}: {layout.layout.name}. {advice} Found: {columns}.")
    return Found(layout.layout, {**layout.used, **_common(columns, layout.used)})


def _common(columns: Columns, used: Used) -> Used:
    """Return what any layout may have beside the conversation."""
    common = {}
    if name := columns.first(SYSTEMS):
        common["system"] = name
    if name := columns.first(TOOLS):
        common["tools"] = name
    if "list" not in used and "history" in columns:
        common["history"] = "history"
    answer = used.get("answer", "").lower()
    if answer and is_text(columns.kind(answer)) and (name := columns.first(REASONINGS)):
        common["reasoning"] = name
    return columns.used(**common)


UNDERSTOOD = "; ".join(
    f"{layout.known_by.replace('`', '')} ({layout.name})" for layout in LAYOUTS if not layout.refused
)
