"""Cutting an optimizer step into micro-batches that fit the memory, with the same mathematics."""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from sft.core import provenance
from sft.core.errors import UserError
from sft.distributed.ranks import ALONE, Ranks
from sft.distributed.shares import shares
from sft.modeling.labels import Rows
from sft.modeling.packing import cut, pack
from sft.training.chunked_loss import Loss

# A fixed number where memory cannot be measured, so that every such machine cuts alike.
CPU_TOKENS = 4096
MEMORY_SHARE = 0.9  # of the card's memory, planned for; the rest is for fragments and other processes


@dataclass
class MicroBatches:
    """How steps are cut: at most `limit` rows, or at most `limit` tokens, in one micro-batch.

    `checkpointing` tells whether gradients are checkpointed, and `checkpoint` begins to, which it returns;
    it returns False where they are already, or may not be. `halvings` counts the times memory ran out.
    Of several `ranks` each has rows of its own, and all of them cut alike.
    """

    unit: Literal["rows", "tokens"]
    limit: int
    checkpoint: Callable[[], bool] = lambda: False
    checkpointing: bool = False
    halvings: int = 0
    ranks: Ranks = ALONE

    def state(self) -> dict[str, Any]:
        """Return how steps are cut now, for `fit` in a run that goes on from here."""
        return {name: getattr(self, name) for name in ("unit", "limit", "checkpointing", "halvings")}

    def shares(self, rows: Rows) -> list[Rows]:
        """Share a step's rows out to the ranks, so that each has as many tokens."""
        places = shares([len(row["input_ids"]) for row in rows], [0] * self.ranks.count)
        return [[rows[place] for place in of_rank] for of_rank in places]

    def parts(self, rows: Rows) -> list[Rows]:
        """Cut the rows that a rank has of a step."""
        if self.unit == "rows":
            return [rows[start : start + self.limit] for start in range(0, len(rows), self.limit)]
        lengths = [len(row["input_ids"]) for row in rows]
        return [[rows[n] for n in part] for part in cut(lengths, self.limit)]

    def run(self, rows: Rows, do: Callable[[Rows], torch.Tensor], undo: Callable[[], None]) -> torch.Tensor:
        """Sum `do` over the micro-batches that this rank has of a step; without rows it does an empty one.

        Out of memory in any rank, `undo` forgets what the step has done so far, the limit is halved, and the
        step is done anew, in all of them. Raises UserError where a single row does not fit.
        """
        while True:
            of_ranks, total = self.shares(rows), None
            try:
                done = [do(part) for part in self.parts(of_ranks[self.ranks.rank]) or [[]]]
                total = torch.stack(done).sum()
            except torch.OutOfMemoryError:
                pass  # outside this block the failed step's tensors are let go of
            (failed,) = self.ranks.any(total is None)
            if total is not None and not failed:
                return total
            undo()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.shrink(of_ranks)

    def reserve(self, tokens: int) -> None:
        """Leave out of the limit what `tokens` tokens take that other passes keep in memory."""
        self.limit -= tokens

    def shrink(self, of_ranks: list[Rows]) -> None:
        """Halve the limit, or else checkpoint gradients, for a step's rows; say so on standard error."""
        longest = max(len(row["input_ids"]) for rows in of_ranks for row in rows)
        alone = 1 if self.unit == "rows" else longest
        largest = max(
            len(part) if self.unit == "rows" else sum(len(row["input_ids"]) for row in part)
            for rows in of_ranks
            for part in self.parts(rows)
        )
        if largest > alone:
            self.limit = max(alone, largest // 2)
            self.halvings += 1
            print(f"out of memory: micro-batches of {self.limit:,} {self.unit} from here on", file=sys.stderr)
        elif self.checkpoint():
            self.checkpointing = True
            print("out of memory: gradient checkpointing from here on", file=sys.stderr)
        else:
            raise UserError(
                f"out of memory: a row of {longest:,} tokens does not fit by itself. Lower train.max_length, "
                "let train.gradient_checkpointing be auto, or set model.load_in_4bit to true."
            )


def tokens_that_fit(
    loss_of: Callable[[Rows], torch.Tensor], longest: dict[str, Any], trained: int, summed: bool = False
) -> int:
    """Measure how many tokens of packed rows fit the GPU's memory in one forward and backward pass.

    Attention over packed rows takes memory in proportion to tokens, so two passes, over one and two copies
    of the row `longest`, give the line; `loss_of` computes the loss of rows. `trained` parameters are still
    to get their gradients and optimizer state; `summed` over ranks, gradients have a copy. Returns 0 where
    not even one copy of the row fits.
    """
    device = torch.cuda.current_device()
    free, total = torch.cuda.mem_get_info(device)
    allowed = total * torch.cuda.get_per_process_memory_fraction(device)
    usable = min(int(allowed * MEMORY_SHARE), free + torch.cuda.memory_reserved(device))
    peaks = []
    try:
        for copies in (1, 1, 2):  # the first only for what is allocated once
            before = torch.cuda.memory_allocated(device)
            provenance.restart_peak_memory()
            loss_of([longest] * copies).backward()
            peaks.append(torch.cuda.max_memory_allocated(device) - before)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return len(longest["input_ids"]) if len(peaks) == 2 else 0
    tokens = len(longest["input_ids"])
    for_a_token = max(1.0, (peaks[2] - peaks[1]) / tokens)
    once = max(0.0, peaks[1] - for_a_token * tokens)
    optimizer = (16 if summed else 12) * trained  # gradient and AdamW's two moments, float32
    room = usable - torch.cuda.memory_allocated(device) - once - optimizer
    torch.cuda.empty_cache()
    fits = int(room / for_a_token)
    return fits if fits >= tokens else 0


def fit(
    model: Any,
    rows: Rows,
    loss: Loss,
    set_checkpointing: Callable[[Any, bool], None],
    micro_batch: int | Literal["auto"],
    checkpointing: bool | Literal["auto"],
    dtype: str,
    state: dict[str, Any] | None = None,
    ranks: Ranks = ALONE,
) -> MicroBatches:
    """Choose how to cut steps of such rows, `auto` by what fits the GPU's memory.

    `set_checkpointing` turns the model's gradient checkpointing on or off, `loss` is what is trained by.
    Checkpointing `auto` is off unless a single row does not fit otherwise: it computes each forward pass
    twice, which costs more than cutting a step finer. With the `state` of a run that this one goes on from
    nothing is measured: other cuts round differently. Of several `ranks` the one with the least memory
    decides.
    """
    begun = checkpointing is True if state is None else bool(state["checkpointing"])
    set_checkpointing(model, begun)

    def checkpoint() -> bool:
        nonlocal begun
        if begun or checkpointing is False:
            return False
        begun = True
        set_checkpointing(model, True)
        return True

    if state is not None:
        return MicroBatches(checkpoint=checkpoint, ranks=ranks, **state)
    if micro_batch != "auto":
        return MicroBatches("rows", micro_batch, checkpoint, begun, ranks=ranks)
    if not torch.cuda.is_available():
        return MicroBatches("tokens", CPU_TOKENS, checkpoint, begun, ranks=ranks)
    longest = max(rows, key=lambda row: len(row["input_ids"]))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)

    def loss_of(rows: Rows) -> torch.Tensor:
        with torch.autocast("cuda", getattr(torch, dtype), enabled=dtype != "float32"):
            return loss(model, pack(rows, "cuda"))

    model.train()
    tokens = 0
    while not tokens:
        tokens = ranks.least(tokens_that_fit(loss_of, longest, trained, ranks.count > 1))
        model.zero_grad()
        if not tokens and not checkpoint():
            tokens = len(longest["input_ids"])  # training will say what does not fit
    return MicroBatches("tokens", tokens, checkpoint, begun, ranks=ranks)
