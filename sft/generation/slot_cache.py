"""A key-value cache of fixed slots, one a text being generated, and attention that reads and fills it.

The cache's shape and address never change, so a step can be captured once as a CUDA graph and replayed.
Every slot has its own length: texts begin and end in it independently of one another.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from sft.generation.compat import flash_attention
from sft.modeling.architecture import head_width
from sft.modeling.packed_attention import has_varlen, packed_attention

SLOTTED = "slotted_rows"


class Slots:
    """Keys and values of `count` slots of `length` tokens, for every layer of a model.

    While prompts are read, `copies` (copies, tokens) holds the places, slot x length + position, that each
    of the packed tokens is stored at. While texts are generated it is None: one token a slot is read, stored
    at `places` (count,), and attends to the slot's first `used` (count,) tokens.
    """

    def __init__(self, config: Any, count: int, length: int, device: torch.device, dtype: torch.dtype):
        shape = (count * length, config.num_key_value_heads, head_width(config))
        layers = range(config.num_hidden_layers)
        self.count, self.length = count, length
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self.key_starts = torch.arange(count + 1, dtype=torch.int32, device=device) * length
        self.query_starts = torch.arange(count + 1, dtype=torch.int32, device=device)
        self.copies: torch.Tensor | None = None
        self.places = torch.zeros(count, dtype=torch.int64, device=device)
        self.used = torch.ones(count, dtype=torch.int32, device=device)


def bytes_a_token(config: Any, dtype: torch.dtype) -> int:
    """Return the bytes that one token's keys and values take in all layers."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head_width(config) * dtype.itemsize


def slotted_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    slots: Slots,
    scaling: float | None = None,
    **packed: Any,
) -> tuple[torch.Tensor, None]:
    """Store key and value (1, key heads, tokens, width); attend within packed prompts, or within slots."""
    keys, values = slots.keys[module.layer_idx], slots.values[module.layer_idx]
    key_rows, value_rows = key[0].transpose(0, 1), value[0].transpose(0, 1)
    if slots.copies is not None:
        for places in slots.copies:
            keys[places], values[places] = key_rows, value_rows
        return packed_attention(module, query, key, value, None, scaling=scaling, **packed)
    keys[slots.places], values[slots.places] = key_rows, value_rows
    if has_varlen(query.device, query.dtype, query.shape[3]):
        attended = flash_attention(
            query[0].transpose(0, 1),
            keys,
            values,
            slots.query_starts,
            slots.key_starts,
            slots.length,
            slots.used,
            scaling,
        )
        return attended[None], None
    by_slot = (slots.count, slots.length, *keys.shape[1:])
    groups = query.shape[1] // keys.shape[1]
    all_keys, all_values = (
        x.view(by_slot).transpose(1, 2).repeat_interleave(groups, 1) for x in (keys, values)
    )
    visible = torch.arange(slots.length, device=query.device) < slots.used[:, None]
    attended = scaled_dot_product_attention(
        query[0].transpose(0, 1)[:, :, None], all_keys, all_values, visible[:, None, None], scale=scaling
    )
    return attended[None, :, :, 0], None


def register() -> None:
    """Make SLOTTED known to transformers; it gets no mask from there, for it needs none."""
    from transformers import AttentionInterface

    AttentionInterface.register(SLOTTED, slotted_attention)
