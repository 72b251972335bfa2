"""Which tokens of a rendered conversation are the assistant's, and are to be in the loss."""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sft.core.errors import UserError
from sft.modeling.template_facts import REASONING_KEY, Reasoning, examine
from sft.modeling.template_ids import token_places, tokenize, with_bos
from sft.modeling.template_rendering import Messages, Tools, apply, source

GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What templates of reasoning models put before an answer that came without a thought.
EMPTY_THOUGHT = re.compile(r"\A<think>\s*</think>\s*")
_SPACE = re.compile(r"\s*")
NOT_PRINTED = -1  # in place of where thoughts end


class UnprovenError(Exception):
    """Why the assistant's tokens of one conversation cannot be told apart.

    `reason` says it of any conversation, the message says it of this one.
    """

    def __init__(self, text: str, message: int = 0):
        super().__init__(text.format(f"message {message + 1}"))
        self.reason = text.format("an answer")


@dataclass(frozen=True)
class Rendered:
    """A conversation as it was written and as it is handed to the template, and the text that this makes.

    `reasoning` says how the text has thoughts. `trained` is False, for each message, where it is not learned.
    """

    messages: Messages
    handed: Messages
    tools: Tools | None
    reasoning: Reasoning
    text: str
    trained: Sequence[bool | None]

    def turns(self) -> list[int]:
        """Return the numbers of the assistant's messages."""
        return [number for number, message in enumerate(self.messages) if message["role"] == "assistant"]

    def prompt(self, tokenizer: Any, turn: int) -> str:
        """Render what asks for one of the assistant's messages."""
        return apply(tokenizer, self.handed[:turn], self.tools, tokenize=False, add_generation_prompt=True)


@dataclass(frozen=True)
class Turn:
    """An assistant's turn: the message's number, and its token ids from `start` up to `stop`.

    `thoughts_end` is the place in the text where its thoughts and the mark after them end, None where it has
    none. `as_written` is False where the template leaves out the thoughts that the message has; the ids are
    then those that the turn is among.
    """

    message: int
    start: int
    stop: int
    thoughts_end: int | None = None
    as_written: bool = True


def end_of_turn(tokenizer: Any) -> int:
    """Return the id of the token that ends an assistant's turn, found by rendering one.

    Raises UserError where the template ends the turn with no token of the tokenizer's own.
    """
    end = examine(tokenizer).end
    if end is None:
        raise UserError(
            f"{tokenizer.name_or_path}: its chat template ends an assistant's turn with no special token, "
            "so the model could not learn where to stop. Use a model, or a chat template, that has one."
        )
    return end


def find_turns(tokenizer: Any, rendered: Rendered) -> tuple[list[int], list[Turn]]:
    """Return the conversation's token ids and, among them, the assistant's turns that are to be learned.

    With {% generation %} tags the template tells them. Else it is proven of each that its prompt's ids begin
    the ids of the whole, that the answer follows as it was written, and that the end of turn follows.
    Raises UnprovenError where they cannot be told apart.
    """
    find = _tagged if GENERATION_TAG.search(source(tokenizer, rendered.tools)) else _proven
    return find(tokenizer, rendered)


def loss_mask(
    tokenizer: Any, text: str, ids: list[int], turns: Sequence[Turn], hide_thoughts: bool
) -> list[bool]:
    """Return which of the ids belong to turns as they were written, without thoughts if these are hidden."""
    mask = [False] * len(ids)
    for turn in turns:
        start = turn.start
        if hide_thoughts and turn.thoughts_end is not None:
            start = bisect_left(token_places(tokenizer, text, ids), turn.thoughts_end, start, turn.stop)
        if turn.as_written:
            mask[start : turn.stop] = [True] * (turn.stop - start)
    return mask


def _tagged(tokenizer: Any, rendered: Rendered) -> tuple[list[int], list[Turn]]:
    output = apply(
        tokenizer,
        rendered.handed,
        rendered.tools,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    ids, marks = with_bos(tokenizer, output["input_ids"]), output["assistant_masks"]
    ours = [False] * (len(ids) - len(marks)) + [bool(mark) for mark in marks]
    edges = [place for place, (one, other) in enumerate(pairwise([False, *ours, False])) if one != other]
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    numbers = rendered.turns()
    # transformers gives up without a word where a tagged text begins or ends inside a token.
    if len(spans) != len(numbers):
        raise UnprovenError(
            f"its generation tags mark the tokens of {len(spans)} of {len(numbers)} assistant turns"
        )
    turns, before = [], 0
    places = [*token_places(tokenizer, rendered.text, ids), len(rendered.text)]
    for number, (start, stop) in zip(numbers, spans, strict=True):
        message, begin, end = rendered.messages[number], places[start], places[stop]
        thoughts, thoughts_end = thoughts_of(message), None
        if thoughts and (place := rendered.text.find(thoughts, begin, end)) >= 0:
            thoughts_end = _after(rendered.text, place, thoughts, rendered.reasoning.closing)
        if rendered.trained[number] is not False:
            if rendered.text.find((message.get("content") or "").strip(), thoughts_end or begin, end) < 0:
                raise UnprovenError("its generation tags do not mark {} as it was written", number)
            # Where thoughts stand before the tags, the template has them in the context only.
            asked = (rendered.messages[number - 1].get("content") or "").strip() if number else ""
            if (place := rendered.text.find(asked, before, begin)) >= 0:
                before = place + len(asked)
            turns.append(Turn(number, start, stop, thoughts_end, thoughts in rendered.text[before:end]))
        before = end
    return ids, turns


def _proven(tokenizer: Any, rendered: Rendered) -> tuple[list[int], list[Turn]]:
    end, control = end_of_turn(tokenizer), examine(tokenizer, rendered.tools).control_ids
    left, learned, prompts = [], [], []
    for number in rendered.turns():
        if rendered.trained[number] is False:
            continue
        prompt = rendered.prompt(tokenizer, number)
        thoughts_end = _follow(rendered, prompt, number)
        if thoughts_end == NOT_PRINTED:
            left.append(number)
        else:
            learned.append((number, thoughts_end))
            prompts.append(prompt)
    ids, *begun = tokenize(tokenizer, [rendered.text, *prompts])
    limits = [*map(len, begun), len(ids)][1:]
    turns = []
    for (number, thoughts_end), prompt_tokens, limit in zip(learned, begun, limits, strict=True):
        start = len(prompt_tokens)
        if ids[:start] != prompt_tokens:
            raise UnprovenError("the first token of {} merges with the header before it", number)
        stop = next((place for place in range(start, limit) if ids[place] in control), limit)
        if stop == limit or ids[stop] != end:
            raise UnprovenError("{} ends with another token than the last assistant turn", number)
        turns.append(Turn(number, start, stop + 1, thoughts_end))
    for number in left:
        # Where such a turn begins is not proven: it is somewhere between those around it.
        start = max((turn.stop for turn in turns if turn.message < number), default=0)
        stop = min(
            (turn.start for turn in turns if turn.message > number and turn.as_written), default=len(ids)
        )
        turns.append(Turn(number, start, stop, as_written=False))
    return ids, sorted(turns, key=lambda turn: turn.message)


def _follow(rendered: Rendered, prompt: str, turn: int) -> int | None:
    """Prove that a message follows its prompt as it was written.

    Returns the place where its thoughts end, None where it has none, NOT_PRINTED where the template leaves
    them out. Raises UnprovenError.
    """
    text, message, reasoning = rendered.text, rendered.messages[turn], rendered.reasoning
    # Templates may trim an answer, but one that changes it would train on what nobody wrote.
    content, thoughts = (message.get("content") or "").strip(), thoughts_of(message)
    start = len(prompt) if text.startswith(prompt) else None
    if thoughts:
        end = _after(text, start, reasoning.opening, thoughts, reasoning.closing)
        if end is not None and text.startswith(content, end):
            return end
        last = turn + 1 == len(rendered.messages)
        if not last and (thoughts not in text or _after(text, start, content) is not None):
            return NOT_PRINTED
    if start is None:
        raise UnprovenError("the prompt of {} is not how the whole conversation begins", turn)
    rest = text[start:].lstrip()
    if thoughts or not (rest.startswith(content) or EMPTY_THOUGHT.sub("", rest).startswith(content)):
        raise UnprovenError("{} does not follow its prompt as it was written", turn)
    return None


def thoughts_of(message: Mapping[str, Any]) -> str:
    """Return a message's thoughts without white space around them."""
    return (message.get(REASONING_KEY) or "").strip()


def _after(text: str, place: int | None, *pieces: str) -> int | None:
    """Return the place after these pieces, each with white space around it; None where they do not follow."""
    if place is None:
        return None
    for piece in map(str.strip, pieces):
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if not text.startswith(piece, place):
            return None
        place += len(piece)
    return _SPACE.match(text, place).end()  # type: ignore[union-attr]
