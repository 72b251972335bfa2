"""Adding up the ranks' gradients: one flat all-reduce a step, after which every rank makes the same step.

PyTorch's DistributedDataParallel would do it in pieces during the backward pass, which is worth it where
all weights are trained; a LoRA's gradients are small. And its wrapper hides the PEFT model, and does nothing
where the loss does not come out of its forward, or where the backward pass is a CUDA graph.
"""

from typing import Any

import torch

from sft.distributed.ranks import Ranks
from sft.training import compat


class GradientSum:
    """Adds up a step's gradients of `model` and its loss over the ranks.

    The buffer is made once, and what the devices talk through is set up with it: a step that has filled the
    memory can still be added up. Float32, whatever the gradients are.
    """

    def __init__(self, ranks: Ranks, model: Any) -> None:
        self.ranks = ranks
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        sizes = [p.numel() for p in self.parameters]
        self.flat = torch.zeros(sum(sizes) + 1, device=self.parameters[0].device)
        *parts, self.loss = self.flat.split([*sizes, 1])
        self.parts = [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]
        ranks.add(self.flat)

    def __call__(self, loss: torch.Tensor) -> torch.Tensor:
        """Replace every gradient by the sum of the ranks'; return the sum of their `loss`.

        A parameter that no gradient has reached is left without one: which those are follows from the model.
        """
        pairs = [
            (p.grad, part) for p, part in zip(self.parameters, self.parts, strict=True) if p.grad is not None
        ]
        gradients, parts = [gradient for gradient, _ in pairs], [part for _, part in pairs]
        compat.copy(parts, gradients)
        self.loss.copy_(loss)
        self.ranks.add(self.flat)
        compat.copy(gradients, parts)
        return self.loss[0].clone()
