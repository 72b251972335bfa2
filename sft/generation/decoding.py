"""What generating and streaming do alike: reading tokens into a cache, ending a text, decoding it."""

from collections.abc import Container
from typing import Any

import torch


def read(model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: Any, **options: Any) -> torch.Tensor:
    """Read tokens (rows, tokens) into the cache; return the scores (rows, vocabulary) of the next ones.

    `mask` (rows, tokens in the cache and `ids`) is 0 at the padding on the left.
    """
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **options,
    )
    return output.logits[:, -1]


def until_stop(ids: list[int], stop_ids: Container[int]) -> tuple[list[int], bool]:
    """Return the tokens before the first that ends a text, and whether there is one."""
    for place, token in enumerate(ids):
        if token in stop_ids:
            return ids[:place], True
    return ids, False


def decode(tokenizer: Any, ids: list[int]) -> str:
    """Return the text of generated tokens."""
    return tokenizer.decode(ids, skip_special_tokens=True).strip()
