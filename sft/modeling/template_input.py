"""Messages as a chat template takes them: thoughts where it reads them, ids of calls that it accepts."""

from typing import Any

from sft.modeling.template_facts import AS_TEXT, ID_LENGTH, REASONING_KEY, Reasoning, examine
from sft.modeling.template_rendering import Messages, Tools


def place_of_thoughts(tokenizer: Any, tools: Tools | None = None) -> Reasoning:
    """Return where the template, or what stands in for it, has thoughts."""
    return examine(tokenizer, tools).reasoning or AS_TEXT


def as_input(tokenizer: Any, messages: Messages, tools: Tools | None = None) -> Messages:
    """Return the messages with their thoughts where the template reads them, and with ids that it takes."""
    messages = _with_thoughts(messages, place_of_thoughts(tokenizer, tools))
    return _with_ids(messages) if examine(tokenizer, tools).needs_ids else messages


def _with_ids(messages: Messages) -> Messages:
    """Return the messages with ids of ID_LENGTH for calls that have others or none, by their order."""
    numbered: list[dict[str, Any]] = []
    given: dict[str | None, str] = {}  # by the id in the data
    unanswered: list[str] = []
    number = 0
    for message in map(dict, messages):
        if message.get("tool_calls"):
            message["tool_calls"] = [dict(call) for call in message["tool_calls"]]
            for call in message["tool_calls"]:
                number += 1
                old = call.get("id")
                call["id"] = old if len(old or "") == ID_LENGTH else f"call{number:0{ID_LENGTH - 4}}"
                given[old] = call["id"]
                unanswered.append(call["id"])
        elif message["role"] == "tool" and unanswered:
            old = message.get("tool_call_id")
            answered = given.get(old, unanswered[0]) if old else unanswered[0]
            message["tool_call_id"] = answered
            unanswered = [one for one in unanswered if one != answered]
        numbered.append(message)
    return numbered


def _with_thoughts(messages: Messages, place: Reasoning) -> Messages:
    if place.key == REASONING_KEY or not any(REASONING_KEY in message for message in messages):
        return messages
    handed = []
    for message in map(dict, messages):
        thoughts = (message.pop(REASONING_KEY, None) or "").strip()
        if thoughts and place.key:
            message[place.key] = thoughts
        elif thoughts:
            message["content"] = f"{place.opening}{thoughts}{place.closing}{message.get('content') or ''}"
        handed.append(message)
    return handed
