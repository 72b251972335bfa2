"""A linear layer with its LoRA in one autograd function: the same sums in fewer passes over memory.

PEFT adds the LoRA's output to the layer's in separate steps (scale, add, and another add for the
gradient), each a pass over all activations; here the matrix products add up as they are computed.
"""

from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

from sft.training import compat


class _LoraLinear(torch.autograd.Function):
    """x W' + bias + scale (x A') B', with gradients for x, A and B."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1])
            down, up = a.to(x.dtype), b.to(x.dtype)
            narrow = rows @ down.T
            output = linear(rows, weight, bias).addmm_(narrow, up.T, alpha=scale)
        ctx.save_for_backward(rows, weight, down, up, narrow)
        ctx.scale, ctx.types, ctx.shape = scale, (a.dtype, b.dtype), x.shape
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        rows, weight, down, up, narrow = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, weight.shape[0])
        of_narrow = (gradient @ up).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(of_narrow, down).view(ctx.shape)
        of_a = (of_narrow.T @ rows).to(ctx.types[0])
        of_b = (gradient.T @ narrow).to(ctx.types[1]).mul_(ctx.scale)
        return of_x, None, None, of_a, of_b, None


def _forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    lora = compat.active_lora(layer)
    if lora is None:
        return type(layer).forward(layer, x)
    a, b, scale = lora
    weight, bias = layer.base_layer.weight, layer.base_layer.bias
    return _LoraLinear.apply(x.to(weight.dtype), weight, bias, a, b, scale)


def fuse(model: Any) -> None:
    """Give the PEFT model's plain LoRA layers the fused forward; others (4-bit, dropout) stay PEFT's."""
    for layer in model.modules():
        if compat.is_plain_lora(layer):
            layer.forward = partial(_forward, layer)
