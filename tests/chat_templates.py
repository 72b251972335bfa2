"""Chat templates as models publish them (TRL ships copies), and conversations with tools and thoughts."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from tests.tiny import save_tokenizer

CHATML = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
LLAMA3 = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city: 20°.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
ASKED = {"role": "user", "content": "Weather in Orléans?"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call12345",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": "Orléans"}},
        }
    ],
}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call12345", "content": '{"celsius": 20}'}
ANSWER = {"role": "assistant", "content": "It is 20° there."}
TOOL_CHAT: list[dict[str, Any]] = [ASKED, CALL, RESULT, ANSWER]
THOUGHT: list[dict[str, Any]] = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "reasoning_content": "One and one.\n\nTwo!", "content": "2"},
]
THOUGHTS = [
    *THOUGHT,
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "reasoning_content": "Two and two.", "content": "4"},
]


def published(name: str) -> str:
    """Return the chat template of a family of models, such as qwen3 or llama3_1."""
    spec = importlib.util.find_spec("trl")
    assert spec and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "chat_templates", f"{name}.jinja").read_text("utf-8")


def tokenizer_of(
    folder: Path, template: str, control: Sequence[str] = (*CHATML, *LLAMA3), **special: str
) -> PreTrainedTokenizerFast:
    """Make a byte tokenizer that has these control tokens: those of ChatML and of Llama 3."""
    save_tokenizer(folder, control, template, **special)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.name_or_path = "made"
    return tokenizer


def learned(tokenizer: Any, encoded: Any) -> list[str]:
    """Return the runs of text whose tokens are in the mask."""
    runs, before = [], False
    for token, ours in zip(encoded.input_ids, encoded.assistant_mask, strict=True):
        if ours and not before:
            runs.append([])
        if ours:
            runs[-1].append(token)
        before = ours
    return [tokenizer.decode(run) for run in runs]
