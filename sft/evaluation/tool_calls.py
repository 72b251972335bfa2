"""Tool calls in a model's answers, in the forms that models write, and whether they are the reference's.

The forms: Hermes' and Qwen's `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, one pair of tags a
call, with the XML of Qwen3-Coder (`<function=...><parameter=...>`) or of GLM (`<arg_key>`) in it too; Llama
3.1's `{"name": ..., "parameters": {...}}`; Mistral's `[TOOL_CALLS][{"name": ..., "arguments": {...}}]` and
`[TOOL_CALLS]name[ARGS]{...}`; LFM2's `<|tool_call_start|>[name(argument=...)]<|tool_call_end|>`; gpt-oss's
`to=functions.name ... <|message|>{...}`; and plain JSON, one or several calls or a list of them, in OpenAI's
form too, with or without a code fence.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from sft.evaluation import json_answers

# A model that is cut off, or stops early, may leave the last tag out.
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_GLM_ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_GLM = re.compile(rf"([\w.-]+)\s*((?:{_GLM_ARGUMENT.pattern}\s*)*)", re.DOTALL)
_PYTHONIC = re.compile(r"<\|tool_call_start\|>(.*?)(?:<\|tool_call_end\|>|\Z)", re.DOTALL)
_GPT_OSS = re.compile(r"to=functions\.([\w.-]+)[^{]*<\|message\|>(.*?)(?:<\|call\|>|\Z)", re.DOTALL)
_MISTRAL = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\w*)?\s*\[ARGS\](.*)", re.DOTALL)


class _Untyped(str):
    """An argument's value as text, in a form that does not tell a number from a text of digits."""


def match(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return 1 for a prediction whose calls are those of one of its references, else 0.

    Names and arguments must be equal, texts but for white space around them; the order of several calls does
    not matter. Of a reference that is no
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
    marked = list(_marked(text))
    if marked:
        return marked
    try:
        values = json_answers.parse_all(text)
    except ValueError:
        return []
    return _calls(values, marked=False)


def _marked(text: str) -> Iterator[dict[str, Any]]:
    """Yield the calls that an answer marks as such."""
    if tagged := _TAGGED.findall(text):
        for inside in tagged:
            yield from _inside(inside)
    elif functions := _FUNCTION.findall(text):
        for name, inside in functions:
            yield _of_texts(name, _PARAMETER.findall(inside))
    elif "[TOOL_CALLS]" in text:
        for rest in text.split("[TOOL_CALLS]")[1:]:
            named = _MISTRAL.fullmatch(rest)
            yield from _named(*named.groups()) if named else _calls(json_answers.parse_all(rest), marked=True)
    elif lists := _PYTHONIC.findall(text):
        for inside in lists:
            yield from _pythonic(inside)
    elif named_calls := _GPT_OSS.findall(text):
        for name, arguments in named_calls:
            yield from _named(name, arguments)
    elif "<|python_tag|>" in text:
        yield from _calls(json_answers.parse_all(text.partition("<|python_tag|>")[2]), marked=True)


def _inside(text: str) -> list[dict[str, Any]]:
    """Read what stands in <tool_call> tags."""
    if functions := _FUNCTION.findall(text):
        return [_of_texts(name, _PARAMETER.findall(inside)) for name, inside in functions]
    if glm := _GLM.fullmatch(text):
        return [_of_texts(glm[1], _GLM_ARGUMENT.findall(glm[2]))]
    return _calls(json_answers.parse_all(text), marked=True)


def _of_texts(name: str, arguments: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {"name": name, "arguments": {key.strip(): _Untyped(value.strip()) for key, value in arguments}}


def _named(name: str, arguments: str) -> list[dict[str, Any]]:
    return _calls([{"name": name, "arguments": json_answers.parse(arguments)}], marked=True)


def _pythonic(text: str) -> list[dict[str, Any]]:
    """Read a list of Python's calls with literal arguments."""
    try:
        listed = ast.parse(text.strip(), mode="eval").body
        return [
            {
                "name": ast.unparse(call.func),  # type: ignore[attr-defined]
                "arguments": {given.arg: ast.literal_eval(given.value) for given in call.keywords},  # type: ignore[attr-defined]
            }
            for call in listed.elts  # type: ignore[attr-defined]
        ]
    except (SyntaxError, AttributeError, MemoryError, RecursionError) as error:
        raise ValueError("no tool call") from error


def _calls(values: Sequence[Any], marked: bool) -> list[dict[str, Any]]:
    """Read calls and lists of them; JSON of another form is no call, and a fault where it is marked."""
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    calls = [_call(item, marked) for item in items]
    if None in calls:
        if marked:
            raise ValueError("no tool call")
        return []
    return [call for call in calls if call]


def _call(value: Any, marked: bool) -> dict[str, Any] | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    # An object with a name and nothing else is a call only where it is marked as one.
    default: dict[str, Any] | None = {} if marked else None
    given = next((value[key] for key in ("arguments", "parameters") if key in value), default)
    if isinstance(given, str):  # OpenAI's is a text of JSON
        with suppress(ValueError):
            given = json_answers.parse(given)
    return {"name": value["name"], "arguments": given} if isinstance(given, dict | str) else None


def _same(reference: str, prediction: str) -> bool:
    wanted = parse(reference)
    try:
        found = parse(prediction)
        for call in wanted:
            found.pop(next(place for place, one in enumerate(found) if _equal(call, one)))
    except (ValueError, RecursionError, StopIteration):
        return False
    return not found


def _equal(call: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two calls are the same; values without a type are equal to what they can be read as."""
    one, two = call["arguments"], other["arguments"]
    if call["name"] != other["name"]:
        return False
    if not (isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys()):
        return json_answers.canonical(one) == json_answers.canonical(two)
    return all(bool(_readings(one[key]) & _readings(two[key])) for key in one)


def _readings(value: Any) -> set[str]:
    if not isinstance(value, _Untyped):
        return {json_answers.canonical(value.strip() if isinstance(value, str) else value)}
    readings = {json_answers.canonical(str(value))}
    for read in (json_answers.parse, ast.literal_eval):  # templates write True, or true
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            readings.add(json_answers.canonical(read(value)))
    return readings
