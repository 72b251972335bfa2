"""The layouts that are understood: by which columns each is known, and what becomes of its fields."""

from sft.data import layout_finders as finders
from sft.data.layout import Layout

_FIRST = "the messages, in their order"

UNDERSTOOD = (
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
            "input, context, passage": "below the question, where they are text",
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
            "context, passage": "below that, where they are text",
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
            "input, context, passage": "below the instruction, where they are text",
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
        {
            "query": "the user's message",
            "input, context, passage": "below the query, where they are text",
            "response": "the assistant's message",
            "history": "as Alpaca's",
        },
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
            "input, context, passage": "below the query, where they are text",
            "answers": "the assistant's tool calls",
            "tools": "the tools",
        },
        finders.xlam,
    ),
    Layout(
        "input and output",
        "`input` or `text_input`, and `output`",
        (
            {"input": "Salt?", "output": "A pinch."},
            {"input": "And pepper?", "output": "None."},
        ),
        {
            "input, text_input": "the user's message",
            "context, passage": "below it, where they are text",
            "output": "the assistant's message",
        },
        finders.plain,
    ),
)
