"""Thoughts in what a model writes: where they end and its answer begins."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sft.modeling.template_facts import AS_TEXT, examine


class Said(NamedTuple):
    """What a model writes, without its thoughts: the text, and the text with the special tokens in it.

    Some models mark tool calls by special tokens.
    """

    text: str
    marked: str


def said(tokenizer: Any, prompt: Sequence[int], ids: Sequence[int]) -> Said:
    """Return what tokens that a model wrote after a prompt say, white space around it stripped.

    Thoughts end with the chat template's first closing mark, <think> tags where it has none of its own, if
    the prompt ends with an opening one or the answer begins with it. Where they never end there is no answer.
    """
    place = examine(tokenizer).reasoning or AS_TEXT
    closing = place.closing.strip()
    marked = tokenizer.decode(ids, skip_special_tokens=False).strip()
    opened = marked.startswith(place.mark) or _text(tokenizer, prompt).endswith(place.mark)
    if not (closing and opened):
        return Said(tokenizer.decode(ids, skip_special_tokens=True).strip(), marked)
    marked = text = marked.partition(closing)[2].strip()
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            text = text.replace(token.content, "")
    return Said(text.strip(), marked)


def _text(tokenizer: Any, prompt: Sequence[int]) -> str:
    return tokenizer.decode(prompt, skip_special_tokens=False).rstrip()
