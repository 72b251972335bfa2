"""Tool calls in a model's answers, in the forms that models write, and whether they are the reference's.

The forms: Hermes' and Qwen's `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, one pair of tags a
call; Llama 3.1's `{"name": ..., "parameters": {...}}`; Mistral's `[TOOL_CALLS][{"name": ..., "arguments":
{...}}]`; and plain JSON, one call or a list of them, in OpenAI's form too, with or without a code fence.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sft.evaluation import json_answers

# A model that is cut off, or stops early, may leave the last tag out.
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_MARKS = ("[TOOL_CALLS]", "<|python_tag|>")


def match(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return 1 for a prediction whose calls are those of one of its references, else 0.

    Names and arguments must be equal, the order of several calls does not matter. Of a reference that is no
    call a prediction without a call is right.
    """
    return [
        float(any(_same(reference, prediction) for reference in of_one))
        for of_one, prediction in zip(references, predictions, strict=True)
    ]


def parse(text: str) -> list[dict[str, Any]]:
    """Return the calls in an answer, each with `name` and `arguments`; none where it is no call.

    Raises ValueError where the answer marks a call that cannot be read.
    """
    if tagged := _TAGGED.findall(text):
        return [call for inside in tagged for call in _calls(json_answers.parse(inside), marked=True)]
    for mark in _MARKS:
        _, found, rest = text.partition(mark)
        if found:
            return _calls(json_answers.parse(rest), marked=True)
    try:
        value = json_answers.parse(text)
    except ValueError:
        return []
    return _calls(value, marked=False)


def _calls(value: Any, marked: bool) -> list[dict[str, Any]]:
    """Read one call or a list of them; JSON of another form is no call, and a fault where it is marked."""
    calls = [_call(item) for item in (value if isinstance(value, list) else [value])]
    if None in calls:
        if marked:
            raise ValueError("no tool call")
        return []
    return [call for call in calls if call]


def _call(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    given = next((value[key] for key in ("arguments", "parameters") if key in value), None)
    if isinstance(given, str):  # OpenAI's is a text of JSON
        with suppress(ValueError):
            given = json_answers.parse(given)
    return {"name": value["name"], "arguments": given} if isinstance(given, dict | str) else None


def _same(reference: str, prediction: str) -> bool:
    wanted = sorted(map(json_answers.canonical, parse(reference)))
    try:
        return sorted(map(json_answers.canonical, parse(prediction))) == wanted
    except (ValueError, RecursionError):
        return False
