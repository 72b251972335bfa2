"""Forward and backward passes captured as CUDA graphs, for steps that are too small to keep a GPU busy.

A pass launches thousands of kernels from Python, which takes some 0.3 s whatever its size; replayed as a
graph it takes what the kernels take. A graph has fixed sizes, so packs are filled up to one of few shapes.
What is filled in is a row of its own, without loss: it changes rounding and, where the LoRA has dropout,
which numbers are drawn.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from sft.modeling.architecture import head_width
from sft.modeling.flops import Cost
from sft.modeling.labels import Rows
from sft.modeling.packed_attention import has_varlen
from sft.modeling.packing import Packed, Shape, pack, shape_for
from sft.training import compat
from sft.training.chunked_loss import Loss
from sft.training.micro_batches import MicroBatches

# Floating-point operations of a pass. A Hopper card takes 0.3 s for so many, about as long as launching its
# kernels takes: beyond, a graph saves nothing, but capturing it still costs as much as a step or two.
MOST_WORK = 1.2e14


def capturable_tokens(model: Any, dtype: str, micro_batches: MicroBatches) -> int:
    """Return up to how many tokens passes are to be captured, 0 where they cannot be.

    At most a third of what fits the memory, which graphs keep beside that of passes made step by step, and
    at most MOST_WORK: larger passes keep the card busy anyway. Rounded down to 2, 3, 4, 6, 8, 12, ..., so
    that a little more or less free memory in a rerun hardly ever changes it.
    """
    width = head_width(model.get_base_model().config.get_text_config())
    if micro_batches.unit == "rows" or micro_batches.checkpointing:
        return 0
    if not has_varlen(model.device, getattr(torch, dtype), width):
        return 0
    most = min(micro_batches.limit // 3, int(MOST_WORK / Cost.of(model).training([1], 1)))
    low_bits = max(0, most.bit_length() - 2)
    return most >> low_bits << low_bits


def _capture_mode() -> str:
    """Return which threads' calls spoil a capture: not NCCL's, which looks after its own all the time."""
    return "thread_local" if torch.distributed.is_initialized() else "global"


class GraphRunner:
    """Passes over micro-batches of at most `limit` tokens, and `most_rows` rows of at most `longest` tokens.

    The first pass of a shape is made step by step; so is the second, which is then captured; from the
    third on it is replayed. Which pass is which follows from the rows and `limit`. Larger micro-batches
    are not captured. `autocast` and `backward` are the contexts of the two passes.
    """

    def __init__(
        self,
        model: Any,
        loss: Loss,
        limit: int,
        most_rows: int,
        longest: int,
        autocast: Callable[[], AbstractContextManager[Any]],
        backward: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.model, self.loss, self.limit = model, loss, limit
        self.most_rows, self.longest = most_rows, longest
        self.autocast, self.backward = autocast, backward
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.gradients = [torch.zeros_like(p) for p in self.parameters]
        self.used = [False] * len(self.parameters)  # by any pass so far
        self.device = self.parameters[0].device
        self.factor, self.loss_sum = (torch.zeros((), device=self.device) for _ in range(2))
        self.seen: set[Shape] = set()
        self.graphs: dict[Shape, tuple[Packed, Callable[[], None]]] = {}
        self.pool: Any = None

    def state(self) -> dict[str, Any]:
        """Return what a run that goes on from here needs to make the same passes.

        The graphs are captured anew: a replay gives to the bit what the pass gives step by step.
        """
        return {"limit": self.limit, "used": self.used}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of another runner of the same model."""
        self.limit, self.used = state["limit"], list(state["used"])

    def begin(self) -> None:
        """Forget the gradients: a step begins."""
        compat.zero(self.gradients)

    def begin_anew(self) -> None:
        """Forget the gradients and, for their memory, the graphs: a step begins anew, out of memory."""
        self._stop()
        self.begin()

    def run(self, rows: Rows, factor: torch.Tensor) -> torch.Tensor:
        """Add the gradients of `factor` x the rows' summed loss to the parameters'; return that loss."""
        self.factor.copy_(factor)
        shape = shape_for(rows, self.most_rows, self.longest)
        if shape.tokens > self.limit:
            self._pass(pack(rows, self.device))
        elif shape in self.graphs:
            packed, replay = self.graphs[shape]
            packed.copy_(pack(rows, "cpu", shape))
            replay()
        else:
            packed = pack(rows, self.device, shape)
            if shape not in self.seen:
                self._pass(packed)
                self.seen.add(shape)
            elif self._pass_without_waiting(packed):
                self._capture(shape, packed)
        for parameter, gradient, used in zip(self.parameters, self.gradients, self.used, strict=True):
            parameter.grad = gradient if used else None
        return self.loss_sum.clone()

    def _pass(self, packed: Packed) -> None:
        """Make the pass; its gradients are added only at its end, so one that failed can be made again."""
        with self.autocast():
            loss = self.loss(self.model, packed)
        with self.backward():
            gradients = torch.autograd.grad(loss * self.factor, self.parameters, allow_unused=True)
        self.used = [used or new is not None for used, new in zip(self.used, gradients, strict=True)]
        pairs = [pair for pair in zip(self.gradients, gradients, strict=True) if pair[1] is not None]
        compat.add([total for total, _ in pairs], [new for _, new in pairs])
        self.loss_sum.copy_(loss.detach())

    def _pass_without_waiting(self, packed: Packed) -> bool:
        """Make the pass and tell whether the host never waits for the device in it, which no graph can.

        Looked for beforehand, because a capture that fails leaves PyTorch's allocator and random numbers
        in disorder.
        """
        if self.device.type != "cuda":
            self._pass(packed)
            return True
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            self._pass(packed)
            return True
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._stop(error)
        finally:
            torch.cuda.set_sync_debug_mode(before)
        self._pass(packed)
        return False

    def _capture(self, shape: Shape, packed: Packed) -> None:
        if self.device.type != "cuda":
            self.graphs[shape] = packed, lambda: self._pass(packed)
            return
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode=_capture_mode()):
                self._pass(packed)
        except RuntimeError as error:  # out of memory too: the pass itself was made before
            torch.cuda.set_stream(stream)
            self._stop(error)
            return
        self.graphs[shape] = packed, graph.replay

    def _stop(self, error: Exception | None = None) -> None:
        """Capture and replay no more, and say so on standard error where the reason is not said elsewhere."""
        self.graphs.clear()
        self.pool, self.limit = None, 0
        if error:
            reason = str(error).partition("\n")[0]
            print(f"steps are not captured as CUDA graphs from here on: {reason}", file=sys.stderr)
