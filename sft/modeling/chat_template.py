"""Conversations to token ids by the model's own chat template, and which tokens are the assistant's.

Training and generation share this code, so what a model is asked has the ids that it was trained on.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from sft.core.errors import UserError

Messages = Sequence[Mapping[str, str]]

# Llama 3's templates print the date: today's would change the tokens daily. This is their own fallback.
DATE = datetime.datetime(2024, 7, 26)
GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What templates of reasoning models put before an answer that came without a thought.
EMPTY_THOUGHT = re.compile(r"\A<think>\s*</think>\s*")
PROBE = [
    {"role": "user", "content": "Aq"},
    {"role": "assistant", "content": "Bq"},
    {"role": "user", "content": "Cq"},
    {"role": "assistant", "content": "Dq"},
]


class TemplateRefusal(UserError):
    """The template takes other conversations but not this one: count the row and leave it out."""


class _UnprovenError(Exception):
    """Why the assistant's tokens of one conversation cannot be told apart."""


@dataclass(frozen=True)
class Encoded:
    """One conversation's token ids and, of equal length, whether the assistant wrote each.

    The assistant's are its content and the token that ends its turn, not the header before nor the
    newline after. The mask is empty where none was asked for.
    """

    input_ids: list[int]
    assistant_mask: list[bool]


@dataclass(frozen=True)
class _Template:
    end: int | None  # id of the token that ends an assistant's turn
    added_bos: int | None  # id of the BOS that the tokenizer by its own convention begins a text with
    control: re.Pattern[str]  # the tokens that give a conversation its structure


def render(tokenizer: Any, messages: Messages, add_generation_prompt: bool = False) -> str:
    """Render with the tokenizer's chat template; any date in it is 26 Jul 2024.

    Raises TemplateRefusal where the template refuses the conversation (roles that must alternate, no
    system role) or where a message's content holds one of the template's control tokens, which would
    end the turn in its middle.
    """
    control = _template(tokenizer).control
    for number, message in enumerate(messages, 1):
        if token := control.search(message["content"]):
            raise TemplateRefusal(
                f"message {number} ({message['role']}) holds {token[0]}, a control token of the chat template"
            )
    return _apply(tokenizer, messages, tokenize=False, add_generation_prompt=add_generation_prompt)


def prompt_ids(tokenizer: Any, messages: Messages) -> list[int]:
    """Return the token ids that ask the model for the next assistant turn after `messages`.

    They begin the ids of the conversation with that turn, which `encode` proves where there are no
    generation tags. Raises TemplateRefusal where the template refuses the conversation, or where a message
    holds one of the template's control tokens.
    """
    return _tokenize(tokenizer, [render(tokenizer, messages, add_generation_prompt=True)])[0]


def encode(tokenizer: Any, messages: Messages, mask: bool = True) -> Encoded:
    """Return the token ids of a whole conversation and, with `mask`, which of them are the assistant's.

    A BOS is added only if the tokenizer's own convention has one and the template prints none: never two.

    The mask comes from the template's {% generation %} tags where it has them. Else it is proven for
    each assistant turn: the ids of its prompt must begin the ids of the whole, and the answer must
    follow at once. Raises UserError where the template never allows that, TemplateRefusal where only
    this conversation does not.
    """
    text = render(tokenizer, messages)
    if not mask:
        return Encoded(_tokenize(tokenizer, [text])[0], [])
    try:
        return _encode_masked(tokenizer, messages, text)
    except _UnprovenError as reason:
        raise _fault(tokenizer, str(reason)) from None


def end_of_turn(tokenizer: Any) -> int:
    """Return the id of the token that ends an assistant's turn, found by rendering one.

    Raises UserError where the template ends the turn with no token of the tokenizer's own.
    """
    end = _template(tokenizer).end
    if end is None:
        raise UserError(
            f"{tokenizer.name_or_path}: its chat template ends an assistant's turn with no special token, "
            "so the model could not learn where to stop. Use a model, or a chat template, that has one."
        )
    return end


def _encode_masked(tokenizer: Any, messages: Messages, text: str) -> Encoded:
    if GENERATION_TAG.search(_source(tokenizer)):
        return _encode_tagged(tokenizer, messages)
    return _encode_proven(tokenizer, messages, text)


def _encode_tagged(tokenizer: Any, messages: Messages) -> Encoded:
    output = _apply(tokenizer, messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    mask = [bool(ours) for ours in output["assistant_masks"]]
    # transformers gives up without a word where a tagged text begins or ends inside a token.
    marked = sum(ours and not before for before, ours in pairwise([False, *mask]))
    turns = sum(message["role"] == "assistant" for message in messages)
    if marked != turns:
        raise _UnprovenError(f"its generation tags mark the tokens of {marked} of {turns} assistant turns")
    ids = _with_bos(tokenizer, output["input_ids"])
    return Encoded(ids, [False] * (len(ids) - len(mask)) + mask)


def _encode_proven(tokenizer: Any, messages: Messages, text: str) -> Encoded:
    turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    prompts = [render(tokenizer, messages[:turn], add_generation_prompt=True) for turn in turns]
    for turn, prompt in zip(turns, prompts, strict=True):
        if not text.startswith(prompt):
            raise _UnprovenError(f"the prompt of message {turn + 1} is not how the whole conversation begins")
        # Templates may trim an answer, but one that changes it would train on what nobody wrote.
        content, rest = messages[turn]["content"].strip(), text[len(prompt) :].lstrip()
        if not (rest.startswith(content) or EMPTY_THOUGHT.sub("", rest).startswith(content)):
            raise _UnprovenError(f"message {turn + 1} does not follow its prompt as it was written")
    ids, *begun = _tokenize(tokenizer, [text, *prompts])
    end = end_of_turn(tokenizer)
    mask = [False] * len(ids)
    limits = [*map(len, begun), len(ids)][1:]
    for turn, prompt_tokens, limit in zip(turns, begun, limits, strict=True):
        start = len(prompt_tokens)
        if ids[:start] != prompt_tokens:
            raise _UnprovenError(f"the first token of message {turn + 1} merges with the header before it")
        if end not in ids[start:limit]:
            raise _UnprovenError(f"message {turn + 1} ends with another token than the last assistant turn")
        stop = ids.index(end, start) + 1
        mask[start:stop] = [True] * (stop - start)
    return Encoded(ids, mask)


def _fault(tokenizer: Any, reason: str) -> UserError:
    """Blame the template if it fails on the plainest conversation too, else this conversation."""
    try:
        _encode_masked(tokenizer, PROBE, render(tokenizer, PROBE))
    except (_UnprovenError, TemplateRefusal) as general:
        return _ambiguous(tokenizer, str(general))
    return TemplateRefusal(f"the assistant's tokens of this conversation cannot be told apart: {reason}")


def _ambiguous(tokenizer: Any, reason: str) -> UserError:
    return UserError(
        f"{tokenizer.name_or_path}: the assistant's tokens cannot be told apart in its chat template: "
        f"{reason}. Train on all tokens (train.loss_on: all), or give the model a chat template with "
        "{% generation %} tags."
    )


def _tokenize(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # verbose: whether a row is too long is the caller's business, so no warning of it.
    output = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [_with_bos(tokenizer, ids) for ids in output["input_ids"]]


def _with_bos(tokenizer: Any, ids: list[int]) -> list[int]:
    bos = _template(tokenizer).added_bos
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def _apply(tokenizer: Any, messages: Messages, **options: Any) -> Any:
    import jinja2

    if not messages:
        raise TemplateRefusal("there is nothing before the assistant's first turn")
    try:
        return tokenizer.apply_chat_template(
            list(messages),
            date_string=DATE.strftime("%d %b %Y"),
            strftime_now=DATE.strftime,
            **options,
        )
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{tokenizer.name_or_path}: its chat template is not valid Jinja: {error}") from error
    except jinja2.TemplateError as error:
        raise TemplateRefusal(f"the chat template refuses this conversation: {error}") from error


def _source(tokenizer: Any) -> str:
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise UserError(
            f"{tokenizer.name_or_path}: the model has no chat template. Use an instruction-tuned model."
        ) from error


def _template(tokenizer: Any) -> _Template:
    return _examine(tokenizer, _source(tokenizer))


@lru_cache(maxsize=8)
def _examine(tokenizer: Any, source: str) -> _Template:
    """Learn the template's structure by rendering the probe; `source` only keys the cache."""
    # Gemma lists runs of whitespace among its added tokens; those are text.
    added = {
        number: token.content
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip()
    }
    if tokenizer.eos_token_id is not None:
        added[tokenizer.eos_token_id] = tokenizer.eos_token
    try:
        text = _apply(tokenizer, PROBE, tokenize=False)
        prompt = _apply(tokenizer, PROBE[:1], tokenize=False, add_generation_prompt=True)
    except TemplateRefusal as error:
        raise UserError(
            f"{tokenizer.name_or_path}: its chat template takes no plain conversation of user and "
            f"assistant: {error}. Use another model or chat template."
        ) from error
    _, _, tail = text.rpartition(PROBE[-1]["content"])
    ids, prompt_tokens, tail_tokens = tokenizer([text, prompt, tail], add_special_tokens=False)["input_ids"]
    control = sorted({added[number] for number in [*ids, *prompt_tokens] if number in added})
    own = tokenizer("")["input_ids"][:1]
    return _Template(
        end=next((number for number in tail_tokens if number in added), None),
        added_bos=own[0] if own and own[0] == tokenizer.bos_token_id else None,
        # (?!) matches nothing: a template may have no control token at all.
        control=re.compile("|".join(map(re.escape, control)) or "(?!)"),
    )
