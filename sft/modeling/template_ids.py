"""Rendered text to token ids: with a BOS by the tokenizer's own convention, and never with two."""

from typing import Any

from sft.modeling.template_facts import examine


def tokenize(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Return the token ids of rendered texts."""
    # verbose: whether a row is too long is the caller's business, so no warning of it.
    output = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [with_bos(tokenizer, ids) for ids in output["input_ids"]]


def with_bos(tokenizer: Any, ids: list[int]) -> list[int]:
    """Return the ids with the BOS in front that the tokenizer adds to a text, if they have none."""
    bos = examine(tokenizer).added_bos
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def token_places(tokenizer: Any, text: str, ids: list[int]) -> list[int]:
    """Return where in the rendered text each of its token ids begins; -1 for a BOS that is none of it."""
    output = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    places = [begin for begin, _ in output["offset_mapping"]]
    return [-1] * (len(ids) - len(places)) + places
