"""The loss of packed rows: cross-entropy at the tokens that count, without keeping their logits.

The vocabulary's projection is taken only where the loss is, in chunks, and each chunk's gradient is
computed with its loss. So the logits of a step (4 GB in 16 bits for 16,000 tokens of a 128,000-word
vocabulary) are never in memory at once, and nothing is computed twice.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import linear, log_softmax

from sft.core.errors import ParamError
from sft.modeling.architecture import scaled_logits
from sft.modeling.labels import IGNORED
from sft.modeling.packing import Packed

Loss = Callable[[Any, Packed], torch.Tensor]  # of a PEFT model over packed rows, summed

CHUNK = 2**27  # logits at a time: half a gigabyte in float32
FLOAT16_SCALE = 1024  # keeps small probabilities above float16's least


def check_head(model: Any) -> None:
    """Raise UserError for a PEFT model whose logits are more than its head times its last hidden state."""
    causal = model.get_base_model()
    if name := scaled_logits(causal.config.get_text_config()):
        raise ParamError(
            f"model.reference: the model scales its logits ({name}), which training here "
            "does not do. Use another model."
        )
    head = causal.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.weight.requires_grad:
        raise ParamError(
            "train.lora.target_modules: the output layer (lm_head) has to be a plain linear one "
            "here, and cannot be adapted. Take it out of the list, or use another model."
        )


def loss_sum(
    model: Any, packed: Packed, inputs: Callable[[Packed], dict[str, Any]] = Packed.inputs
) -> torch.Tensor:
    """Return the sum of the loss over the packed rows' loss tokens, float32, for a PEFT model.

    `inputs` makes the arguments that the model's decoder is called with.
    """
    causal = model.get_base_model()
    hidden = causal.base_model(**inputs(packed)).last_hidden_state[0]
    head = causal.get_output_embeddings()
    hidden = hidden.index_select(0, packed.predicting).to(head.weight.dtype)
    return _HeadLoss.apply(hidden, head.weight, head.bias, packed.targets)


class _HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of linear(hidden, weight, bias) against targets, less those that are IGNORED.

    There is a gradient for `hidden` only.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        scale = FLOAT16_SCALE if weight.dtype == torch.float16 else 1
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), max(1, CHUNK // len(weight))):
                chunk = slice(start, start + max(1, CHUNK // len(weight)))
                kept = targets[chunk, None] != IGNORED
                target = targets[chunk, None].clamp(min=0)
                log_p = log_softmax(linear(hidden[chunk], weight, bias), -1, dtype=torch.float32)
                total -= torch.where(kept, log_p.gather(1, target), 0).sum()
                if gradient is not None:
                    p = log_p.exp_()
                    p.scatter_(1, target, p.gather(1, target) - 1)
                    if scale != 1:
                        p.mul_(scale)
                    torch.mm(p.to(weight.dtype), weight, out=gradient[chunk])
                    gradient[chunk].masked_fill_(~kept, 0)
        ctx.save_for_backward(gradient)
        ctx.scale = scale
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return (gradient * (gradients[0] / ctx.scale)).to(gradient.dtype), None, None, None
