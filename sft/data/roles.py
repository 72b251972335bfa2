"""The roles of messages, under whatever name a source has them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_ALIASES = {
    "system": "system system_prompt system_message developer",
    "user": "user human prompter prompt input question customer",
    "assistant": "assistant gpt chatgpt chat_gpt bing bard claude gemini llama model ai bot chatbot output "
    "answer response completion agent function_call tool_call tool_calls",
    "tool": "tool tools function function_response function_result function_output tool_response tool_result "
    "tool_results tool_output observation observations ipython environment",
}
ROLES = list(_ALIASES)
SYSTEM, USER, ASSISTANT, TOOL = (ROLES.index(role) for role in ("system", "user", "assistant", "tool"))
UNKNOWN, MISSING = -1, -2
_CODES = {alias: ROLES.index(role) for role, aliases in _ALIASES.items() for alias in aliases.split()}
# What such a message says is a tool call.
_CALLS = ("function_call", "tool_call", "tool_calls")


def is_tool(name: object) -> bool:
    """Tell whether a role is that of a tool."""
    return isinstance(name, str) and _CODES.get(_plain(name), UNKNOWN) == TOOL


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def role_codes(role: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Map roles, whatever they are called, to positions in ROLES; UNKNOWN or MISSING for others.

    Also returns a mask of the messages that by their role are tool calls.
    """
    encoded = role.dictionary_encode()
    names = [_plain(name) for name in encoded.dictionary.to_pylist()]
    indices = pc.fill_null(encoded.indices, len(names)).to_numpy(zero_copy_only=False)
    codes = np.array([*(_CODES.get(name, UNKNOWN) for name in names), MISSING], np.int8)
    calls = np.array([*(name in _CALLS for name in names), False], bool)
    return codes[indices], calls[indices]
