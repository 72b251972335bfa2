"""What a chat template prints, learned by rendering short conversations with it."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from sft.core.errors import UserError
from sft.modeling.template_rendering import Messages, TemplateRefusal, Tools, apply, source

PROBE = [
    {"role": "user", "content": "Aq"},
    {"role": "assistant", "content": "Bq"},
    {"role": "user", "content": "Cq"},
    {"role": "assistant", "content": "Dq"},
]
REASONING_KEY = "reasoning_content"  # of a message: its thoughts
OTHER_KEYS = ("thinking", "reasoning")  # that some templates read instead
THOUGHT, TOOL, ARGUMENT, RESULT = "Eq", "Fq", "Gq", "Hq"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Iq",
            "parameters": {"type": "object", "properties": {ARGUMENT: {"type": "string"}}},
        },
    }
]
ID_LENGTH = 9
CALL: dict[str, Any] = {
    "role": "assistant",
    "tool_calls": [
        {"id": "call12345", "type": "function", "function": {"name": TOOL, "arguments": {ARGUMENT: "Jq"}}}
    ],
}
# Only calls may print the argument's name.
OTHER_TOOLS = [{"type": "function", "function": {"name": "Kq", "description": "Lq", "parameters": {}}}]
ANSWERED = {"role": "tool", "name": TOOL, "tool_call_id": "call12345", "content": RESULT}


@dataclass(frozen=True)
class Reasoning:
    """How the template prints thoughts: the message's key that it reads, and the text around them.

    `opening` stands between the prompt and the thoughts, `closing` between them and the answer. `mark` is
    what tells that they begin, which the prompt may end with.
    """

    key: str
    opening: str
    closing: str
    mark: str


# How a template that has no place for thoughts gets them: as the first part of the content.
AS_TEXT = Reasoning("", "<think>\n", "\n</think>\n\n", "<think>")


@dataclass(frozen=True)
class Template:
    """What is known of a tokenizer's chat template.

    `end` is the id of the token that ends an assistant's turn, `added_bos` that of the BOS which the
    tokenizer by its own convention begins a text with. `control` finds the tokens that give a conversation
    its structure; marks around thoughts are none of them. `reasoning` is None where thoughts are never
    printed. `lacks` has those of "tools", "calls" and "results" that it takes but does not print.
    `needs_ids` says that it takes calls with ids of ID_LENGTH only, as Mistral's do.
    """

    end: int | None
    added_bos: int | None
    control: re.Pattern[str]
    control_ids: frozenset[int]
    reasoning: Reasoning | None
    lacks: frozenset[str]
    needs_ids: bool


def examine(tokenizer: Any, tools: Tools | None = None) -> Template:
    """Return what is known of the tokenizer's chat template, of that for tools where there are any.

    Raises UserError where it has none, or one that takes no plain conversation.
    """
    return _examine(tokenizer, source(tokenizer, tools))


@lru_cache(maxsize=8)
def _examine(tokenizer: Any, source: str) -> Template:
    """Learn the structure of the template with this source."""
    # Gemma lists runs of whitespace among its added tokens; those are text.
    added = {
        number: token.content
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip()
    }
    if tokenizer.eos_token_id is not None:
        added[tokenizer.eos_token_id] = tokenizer.eos_token

    def added_in(*texts: str) -> list[int]:
        return [number for ids in _ids(tokenizer, *texts) for number in ids if number in added]

    try:
        text = _text(tokenizer, source, PROBE)
        prompt = _text(tokenizer, source, PROBE[:1], add_generation_prompt=True)
    except TemplateRefusal as error:
        raise UserError(
            f"{tokenizer.name_or_path}: its chat template takes no plain conversation of user and "
            f"assistant: {error}. Use another model or chat template."
        ) from error
    tail = text.rpartition(PROBE[-1]["content"])[2]
    reasoning = _reasoning(tokenizer, source, prompt)
    structure = {*added_in(_structure(tokenizer, source), tail)}
    control = {*added_in(text, prompt)} - (
        _marks(tokenizer, source, text, prompt, reasoning, added_in) - structure
    )
    own = tokenizer("")["input_ids"][:1]
    return Template(
        end=next(iter(added_in(tail)), None),
        added_bos=own[0] if own and own[0] == tokenizer.bos_token_id else None,
        # (?!) matches nothing: a template may have no control token at all.
        control=re.compile("|".join(sorted(re.escape(added[number]) for number in control)) or "(?!)"),
        control_ids=frozenset(control),
        reasoning=reasoning,
        lacks=frozenset(_lacks(tokenizer, source)),
        needs_ids=_needs_ids(tokenizer, source),
    )


def _reasoning(tokenizer: Any, source: str, prompt: str) -> Reasoning | None:
    for key in (REASONING_KEY, *OTHER_KEYS):
        try:
            text = _text(tokenizer, source, [PROBE[0], {**PROBE[1], key: THOUGHT}])
        except TemplateRefusal:
            continue
        before, found, after = text.partition(THOUGHT)
        closing, answered, _ = after.partition(PROBE[1]["content"])
        if found and answered:
            opening = before.removeprefix(prompt) if before.startswith(prompt) else ""
            return Reasoning(key, opening, closing, opening.strip() or before.split()[-1])
    return None


def _marks(
    tokenizer: Any, source: str, text: str, prompt: str, reasoning: Reasoning | None, added_in: Any
) -> set[int]:
    """Return the added tokens that stand around thoughts, or around their empty place before an answer."""
    marks = set()
    try:
        last_prompt = _text(tokenizer, source, PROBE[:-1], add_generation_prompt=True)
    except TemplateRefusal:
        last_prompt = text
    if text.startswith(last_prompt):
        marks.update(added_in(text[len(last_prompt) :].partition(PROBE[-1]["content"])[0]))
    if reasoning and (closing := added_in(reasoning.closing)):
        # The mark that opens a thought may be a part of the prompt.
        marks.update(closing, added_in(prompt + reasoning.opening)[-1:])
    return marks


def _structure(tokenizer: Any, source: str) -> str:
    try:
        return _text(tokenizer, source, PROBE[:1])
    except TemplateRefusal:
        return ""


def _lacks(tokenizer: Any, source: str) -> list[str]:
    empty = {**CALL, "content": ""}
    asked = [PROBE[0]]
    tried: dict[str, tuple[str, list[list[dict]]]] = {
        "tools": (TOOL, [asked]),
        "calls": (ARGUMENT, [[*asked, CALL], [*asked, empty]]),
        "results": (RESULT, [[*asked, CALL, ANSWERED], [*asked, empty, ANSWERED]]),
    }
    lacks = []
    for name, (word, conversations) in tried.items():
        texts = []
        for messages, tools in product(conversations, [None, OTHER_TOOLS] if name == "calls" else [TOOLS]):
            try:
                texts.append(_text(tokenizer, source, messages, tools=tools))
            except TemplateRefusal:
                continue
        if texts and not any(word in text for text in texts):
            lacks.append(name)
    return lacks


def _needs_ids(tokenizer: Any, source: str) -> bool:
    calls = [{key: value for key, value in call.items() if key != "id"} for call in CALL["tool_calls"]]
    for content in ({}, {"content": ""}):
        try:
            _text(tokenizer, source, [PROBE[0], {**CALL, **content}])
        except TemplateRefusal:
            continue
        try:
            _text(tokenizer, source, [PROBE[0], {**CALL, **content, "tool_calls": calls}])
        except TemplateRefusal:
            return True
    return False


def _text(tokenizer: Any, source: str, messages: Messages, **options: Any) -> str:
    return apply(tokenizer, messages, tokenize=False, chat_template=source, **options)


def _ids(tokenizer: Any, *texts: str) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"]
