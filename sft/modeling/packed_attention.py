"""Attention over rows packed end to end, which never looks from one row into another.

Registered with transformers under the name PACKED, for models that take their attention from its
interface. On an NVIDIA GPU of the Ampere generation or later, in 16 bits, it is PyTorch's varlen_attn
(FlashAttention over all rows in one launch); elsewhere each row is attended to by itself.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from sft.core.errors import ParamError
from sft.modeling import compat

PACKED = "packed_rows"


def has_varlen(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Tell whether PyTorch's varlen attention runs on `device` in `dtype`, with heads of this width."""
    return (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and width <= 256
        and width % 8 == 0
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries_q: torch.Tensor,
    boundaries_k: torch.Tensor,
    longest_q: int,
    longest_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, 0),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Attend within rows: query (tokens, heads, width), key and value (tokens, key heads, width).

    `enable_gqa` says that there are fewer key heads than heads.
    """
    from torch.nn.attention.varlen import varlen_attn

    asked: dict[str, Any] = {"enable_gqa": enable_gqa} if compat.varlen_asks_for_grouping() else {}
    output = varlen_attn(
        query,
        key,
        value,
        boundaries_q,
        boundaries_k,
        longest_q,
        longest_k,
        scale=scale,
        window_size=window_size,
        **asked,
    )
    assert isinstance(output, torch.Tensor)
    return output


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    row_lengths: list[int] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row: query (1, heads, tokens, width) to (1, tokens, heads, width).

    Without `row_lengths` the whole sequence is one row. Raises UserError for a model whose attention is
    more than that.
    """
    if dropout or softcap or s_aux is not None:
        raise ParamError(
            "model.reference: the model's attention has dropout, capped scores or sinks, which "
            "packed rows are not attended to with here. Use another model."
        )
    assert attention_mask is None and key.shape[2] == query.shape[2]
    grouped = query.shape[1] != key.shape[1]
    if cu_seq_lens_q is not None and has_varlen(query.device, query.dtype, query.shape[3]):
        output = varlen(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            window_size=(sliding_window - 1 if sliding_window else -1, 0),
            enable_gqa=grouped,
        )
        return output[None], None
    if query.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError("rows that are attended to one by one cannot be captured")
    if grouped:
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], 1) for x in (key, value))
    attended, start = [], 0
    for length in row_lengths or [query.shape[2]]:
        row = slice(start, start + length)
        windowed = bool(sliding_window and length > sliding_window)
        attended.append(
            scaled_dot_product_attention(
                query[:, :, row],
                key[:, :, row],
                value[:, :, row],
                attn_mask=_band(length, sliding_window, query.device) if windowed else None,
                is_causal=not windowed,
                scale=scaling,
            )
        )
        start += length
    return torch.cat(attended, 2).transpose(1, 2), None


def _band(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Make the mask of causal attention to the last `window` tokens."""
    assert window is not None
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril() & ones.triu(1 - window)


def register() -> None:
    """Make PACKED known to transformers; it gets no mask from there, for it needs none."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_attention)
