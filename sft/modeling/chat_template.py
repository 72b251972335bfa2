"""Conversations to token ids by the model's own chat template, and which tokens are the assistant's.

Training and generation share this code, so what a model is asked has the ids that it was trained on.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sft.core.errors import UserError
from sft.modeling.assistant_mask import (
    EMPTY_THOUGHT,
    Rendered,
    UnprovenError,
    end_of_turn,
    find_turns,
    loss_mask,
    thoughts_of,
)
from sft.modeling.template_facts import AS_TEXT, PROBE, REASONING_KEY, THOUGHT, examine
from sft.modeling.template_ids import tokenize
from sft.modeling.template_input import as_input, place_of_thoughts
from sft.modeling.template_rendering import Messages, TemplateRefusal, Tools, apply

__all__ = [
    "EMPTY_THOUGHT",
    "PROBE",
    "Encoded",
    "Fallback",
    "Messages",
    "TemplateRefusal",
    "Thoughts",
    "Tools",
    "encode",
    "end_of_turn",
    "prompt_ids",
    "render",
]

Thoughts = Literal["train", "mask", "drop"]
Fallback = Literal["text", "refuse"]

NOT_PRINTED = {
    "tools": "the chat template does not print tools",
    "calls": "the chat template does not print tool calls",
    "results": "the chat template does not print what a tool answers",
}
OTHER_MODEL = (
    "Use a model whose chat template prints them (Llama 3.1 and later, Qwen 2.5 and later), or take tools "
    "and what they answer out of the data."
)
FORGED = "a message holds a control token of the chat template"
FORGED_ADVICE = (
    "It would end a turn in its middle. If such rows hold another conversation as text, take it apart into "
    "messages; else take the token out."
)
TEXT_BESIDE_CALLS = "the chat template prints no text beside tool calls"
BESIDE_ADVICE = (
    "Take the text out of such messages (thoughts before a call: train.reasoning: drop), or use another "
    "model or chat template."
)
NO_PLACE = "the chat template has no place for reasoning"
NO_PLACE_ADVICE = (
    "Set train.reasoning_fallback to text (it stands before the answer, in <think> tags), or train.reasoning "
    "to drop, or use a model whose chat template prints reasoning_content."
)
TOLD_APART_ADVICE = (
    "Train on all tokens (train.loss_on: all), if the chat template prints thoughts and answers as they are "
    "written, or give the model a chat template with {% generation %} tags."
)


@dataclass(frozen=True)
class Encoded:
    """One conversation's token ids and, of equal length, whether each is the assistant's and to be learned.

    The assistant's are its thoughts, content and tool calls and the token that ends its turn, not the header
    before nor the newline after. The mask is empty where none was asked for. `thoughtless_turns` counts the
    turns that are not in it because the template leaves out their thoughts, as those of reasoning models do
    with all turns before the last question; `thoughtless` is, as the mask, which tokens these are, empty
    where there are none. `thoughts_end` is the place in the rendered text where the thoughts of the last turn
    in the mask, and the mark after them, end; None where it has none there.
    """

    input_ids: list[int]
    assistant_mask: list[bool]
    thoughtless_turns: int = 0
    thoughtless: Sequence[bool] = ()
    thoughts_end: int | None = None


def render(
    tokenizer: Any, messages: Messages, add_generation_prompt: bool = False, tools: Tools | None = None
) -> str:
    """Render with the tokenizer's chat template; any date in it is 26 Jul 2024.

    `messages` and `tools` are as transformers' `apply_chat_template` takes them, thoughts are the key
    `reasoning_content`. A template that has no place for thoughts gets them as text, in <think> tags before
    the content.
    Raises TemplateRefusal where the template refuses the conversation (roles that must alternate, no
    system role) or leaves out tools or calls, and where a message holds one of the template's control
    tokens, which would end the turn in its middle.
    """
    handed = as_input(tokenizer, messages, tools)
    return _render(tokenizer, messages, handed, tools, add_generation_prompt)


def prompt_ids(tokenizer: Any, messages: Messages, tools: Tools | None = None) -> list[int]:
    """Return the token ids that ask the model for the next assistant turn after `messages`.

    They begin the ids of the conversation with that turn, which `encode` proves where there are no
    generation tags. Raises TemplateRefusal as `render` does.
    """
    return tokenize(tokenizer, [render(tokenizer, messages, True, tools)])[0]


def encode(
    tokenizer: Any,
    messages: Messages,
    mask: bool = True,
    tools: Tools | None = None,
    trained: Sequence[bool | None] | None = None,
    reasoning: Thoughts = "train",
    fallback: Fallback = "text",
) -> Encoded:
    """Return the token ids of a whole conversation and, with `mask`, which of them the assistant learns.

    A BOS is added only if the tokenizer's own convention has one and the template prints none: never two.

    Without `mask` there is one only where the template leaves out thoughts, or cuts an answer at a mark of
    thoughts: so that such turns are known, or the conversation is refused.

    The mask comes from the template's {% generation %} tags where it has them. Else it is proven for
    each assistant turn: the ids of its prompt must begin the ids of the whole, and the answer must
    follow at once. Messages that are False in `trained` are not in it. `reasoning` says whether thoughts are
    in the mask, in the text only, or dropped; `fallback` what becomes of them where the template has no place
    for them: text, as in `render`, or a refusal.
    Raises UserError where the template never allows that, TemplateRefusal where only this conversation
    does not, and as `render` does.
    """
    if reasoning == "drop":
        messages = [{k: v for k, v in message.items() if k != REASONING_KEY} for message in messages]
    place = place_of_thoughts(tokenizer, tools)
    if fallback == "refuse" and place is AS_TEXT and any(map(thoughts_of, messages)):
        raise TemplateRefusal(NO_PLACE, advice=NO_PLACE_ADVICE)
    handed = as_input(tokenizer, messages, tools)
    text = _render(tokenizer, messages, handed, tools)
    if not mask and _is_whole(text, messages, place.closing.strip()):
        return Encoded(tokenize(tokenizer, [text])[0], [])
    rendered = Rendered(messages, handed, tools, place, text, trained or [None] * len(messages))
    try:
        return _encode_masked(tokenizer, rendered, reasoning == "mask")
    except UnprovenError as error:
        raise _fault(tokenizer, error) from None


def _encode_masked(tokenizer: Any, rendered: Rendered, hide_thoughts: bool = False) -> Encoded:
    ids, turns = find_turns(tokenizer, rendered)
    mask = loss_mask(tokenizer, rendered.text, ids, turns, hide_thoughts)
    left = [range(turn.start, turn.stop) for turn in turns if not turn.as_written]
    thoughtless = [any(place in turn for turn in left) for place in range(len(ids))] if left else []
    thoughts_end = turns[-1].thoughts_end if turns else None
    return Encoded(ids, mask, len(left), thoughtless, thoughts_end)


def _is_whole(text: str, messages: Messages, mark: str) -> bool:
    """Tell whether the text has each of the assistant's thoughts and contents, in their order.

    So it is taken to have where there are no thoughts, nor the mark that ends them in an answer.
    """
    said = [message for message in messages if message["role"] == "assistant"]
    if not any(thoughts_of(message) or mark in (message.get("content") or "") for message in said):
        return True
    place = 0
    for message in messages:
        for part in (thoughts_of(message), (message.get("content") or "").strip()):
            found = text.find(part, place)
            if found >= 0:
                place = found + len(part)
            elif message["role"] == "assistant":
                return False
    return True


def _fault(tokenizer: Any, error: UnprovenError) -> UserError:
    """Blame the template if it fails on the plainest conversations too, else this conversation."""
    thinking = [PROBE[0], {**PROBE[1], REASONING_KEY: THOUGHT}]
    general: Exception | None = None
    # Of a model that always thinks, only a conversation with thoughts may be plain.
    for messages in (PROBE, thinking) if examine(tokenizer).reasoning else (PROBE,):
        try:
            place = place_of_thoughts(tokenizer)
            handed = as_input(tokenizer, messages)
            text = _render(tokenizer, messages, handed)
            _encode_masked(tokenizer, Rendered(messages, handed, None, place, text, [None] * len(messages)))
        except (UnprovenError, TemplateRefusal) as failed:
            general = general or failed
        else:
            said = "the assistant's tokens of this conversation cannot be told apart"
            return TemplateRefusal(f"{said}: {error.reason}", f"{said}: {error}", TOLD_APART_ADVICE)
    return UserError(
        f"{tokenizer.name_or_path}: the assistant's tokens cannot be told apart in its chat template: "
        f"{general}. {TOLD_APART_ADVICE}"
    )


def _render(
    tokenizer: Any,
    messages: Messages,
    handed: Messages,
    tools: Tools | None = None,
    add_generation_prompt: bool = False,
) -> str:
    """Render what is handed to the template, and prove that the text has what `messages` have."""
    template = examine(tokenizer, tools)
    for where, part in _parts(messages, tools):
        if token := template.control.search(part):
            raise TemplateRefusal(
                FORGED, f"{where} holds {token[0]}, a control token of the chat template", FORGED_ADVICE
            )
    calls = [message for message in handed if message.get("tool_calls")]
    has = {"tools": tools, "calls": calls, "results": any(message["role"] == "tool" for message in messages)}
    for name in NOT_PRINTED:
        if has[name] and name in template.lacks:
            raise TemplateRefusal(NOT_PRINTED[name], advice=OTHER_MODEL)
    text = apply(tokenizer, handed, tools, tokenize=False, add_generation_prompt=add_generation_prompt)
    if any(name not in text for name in _names(tools or ())):
        raise TemplateRefusal(NOT_PRINTED["tools"], advice=OTHER_MODEL)
    for message in calls:
        if any(name not in text for name in _names(message["tool_calls"])):
            raise TemplateRefusal(NOT_PRINTED["calls"], advice=OTHER_MODEL)
        if (message.get("content") or "").strip() not in text:
            raise TemplateRefusal(TEXT_BESIDE_CALLS, advice=BESIDE_ADVICE)
    thoughts = [*filter(None, map(thoughts_of, messages))] if template.reasoning is None else []
    if not all(thought in text for thought in thoughts):
        raise TemplateRefusal(NO_PLACE, advice=NO_PLACE_ADVICE)
    return text


def _parts(messages: Messages, tools: Tools | None) -> Iterator[tuple[str, str]]:
    """Yield every text that a template may print, and where it stands."""
    for number, message in enumerate(messages, 1):
        where = f"message {number} ({message['role']})"
        for key in ("content", REASONING_KEY, "name"):
            yield where, message.get(key) or ""
        if message.get("tool_calls"):
            yield where, json.dumps(message["tool_calls"], ensure_ascii=False)
    if tools:
        yield "tools", json.dumps(tools, ensure_ascii=False)


def _names(functions: Sequence[Any]) -> Iterator[str]:
    for function in functions:
        yield str((function.get("function") or function).get("name", ""))
