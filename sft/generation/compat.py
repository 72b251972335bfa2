"""What generation uses of torch, transformers and bitsandbytes that they do not promise to keep.

tests/generation/test_compat.py touches each and says where to look when a version moves it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer


def flash_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    longest_keys: int,
    used_keys: torch.Tensor,
    scale: float | None,
) -> torch.Tensor:
    """Attend with one query a row to the first `used_keys` of the row's keys.

    The operator beneath torch's varlen_attn, which has no seqused_k before torch 2.12.
    """
    return torch.ops.aten._flash_attention_forward(
        query,
        keys,
        values,
        query_starts,
        key_starts,
        1,
        longest_keys,
        0.0,
        False,
        False,
        scale=scale,
        seqused_k=used_keys,
    )[0]


@contextmanager
def attention_implementation(model: Any, name: str) -> Iterator[None]:
    """Have a model attend by the implementation that transformers knows as `name`, and then as before."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def has_4bit_layers(model: torch.nn.Module) -> bool:
    """Tell whether layers of the model are bitsandbytes' of 4 bits, by name: it may not be installed."""
    return any(type(module).__name__ == "Linear4bit" for module in model.modules())


def rows_can_join(cache: Any) -> bool:
    """Tell whether rows can be put into the cache: keys with windows or states cannot be put together."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def join_rows(cache: Any, other: Any, length: int) -> None:
    """Put another cache's rows below the cache's, all padded on the left to `length` tokens."""
    for layer, new in zip(cache.layers, other.layers, strict=True):
        layer.keys = torch.cat([_padded(layer.keys, length), _padded(new.keys, length)])
        layer.values = torch.cat([_padded(layer.values, length), _padded(new.values, length)])


def keep_rows(cache: Any, rows: torch.Tensor, padding: int) -> None:
    """Keep some rows of the cache only, without their first `padding` tokens."""
    for layer in cache.layers:
        layer.batch_select_indices(rows)
        if padding:
            layer.keys = layer.keys[:, :, padding:].contiguous()
            layer.values = layer.values[:, :, padding:].contiguous()


def _padded(states: torch.Tensor, length: int) -> torch.Tensor:
    """Pad keys or values (rows, heads, tokens, width) on the left to `length` tokens."""
    return pad(states, (0, 0, length - states.shape[2], 0))
