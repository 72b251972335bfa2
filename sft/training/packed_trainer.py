"""TRL's SFTTrainer on packed rows: a batch is a whole optimizer step, cut here as the memory asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sft.modeling.labels import Rows, loss_tokens
from sft.modeling.packing import pack
from sft.training import compat
from sft.training.chunked_loss import Loss
from sft.training.gradient_sum import GradientSum
from sft.training.keeper import Keeper, ValidationStopped
from sft.training.micro_batches import MicroBatches


def collate(rows: Rows) -> dict[str, Rows]:
    """Hand a step's rows on as they are; they are packed once it is known how they are cut."""
    return {"rows": rows}


@contextmanager
def deterministic_algorithms(on: bool) -> Iterator[None]:
    """Have PyTorch take deterministic algorithms inside, and raise where there is none."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    if on != before:
        compat.leave_new_memory_as_it_is()
        torch.use_deterministic_algorithms(on)
    try:
        yield
    finally:
        if on != before:
            torch.use_deterministic_algorithms(before)


def packed_trainer(
    micro_batches: MicroBatches,
    loss: Loss,
    deterministic: bool,
    captured_tokens: int,
    longest: int,
    keeper: Keeper,
) -> Any:
    """Make the trainer class; `deterministic` has a GPU add up gradients in the same order every time.

    A step's loss is the mean of `loss` over all of its loss tokens, however it is cut and shared out to
    ranks, and so is the validation loss. What else a step is (optimizer, schedule, clipping, loss scaling,
    logs) is the SFTTrainer's. Passes of `captured_tokens` at most, in rows of `longest` tokens at most, are
    replayed as CUDA graphs. `keeper` saves and loads checkpoints.
    """
    import torch
    from trl import SFTTrainer

    from sft.training.cuda_graphs import GraphRunner

    class PackedTrainer(compat.with_checkpoints(SFTTrainer, keeper.save, keeper.load)):  # type: ignore[misc]
        graph_runner: GraphRunner | None = None
        gradient_sum: GradientSum | None = None

        def training_step(
            self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
        ) -> torch.Tensor:
            if not model.training:  # setting it anew walks over all modules, every step
                model.train()
            rows: Rows = inputs["rows"]
            count = sum(loss_tokens(row["labels"]) for row in rows)
            step = self.captured_step if captured_tokens else self.step
            if micro_batches.ranks.count == 1:
                return step(model, rows, count)
            # Before the step, which may fill the memory.
            self.gradient_sum = self.gradient_sum or GradientSum(micro_batches.ranks, model)
            return self.gradient_sum(step(model, rows, count))

        def step(self, model: Any, rows: Rows, count: int) -> torch.Tensor:
            def forward_backward(part: Rows) -> torch.Tensor:
                packed = pack(part, self.args.device)
                with self.accelerator.autocast():
                    mean = loss(model, packed) / count
                with deterministic_algorithms(deterministic and mean.is_cuda):
                    self.accelerator.backward(mean)
                return mean.detach()

            return micro_batches.run(rows, forward_backward, model.zero_grad)

        def captured_step(self, model: Any, rows: Rows, count: int) -> torch.Tensor:
            runner = self.graph_runner = self.graph_runner or self.new_graph_runner(model)
            factor = torch.tensor(1 / count, device=self.args.device)
            if self.accelerator.scaler is not None:
                factor = self.accelerator.scaler.scale(factor)
            runner.begin()
            return micro_batches.run(rows, lambda part: runner.run(part, factor), runner.begin_anew) / count

        def new_graph_runner(self, model: Any) -> GraphRunner:
            runner = GraphRunner(
                model,
                loss,
                captured_tokens,
                self.args.per_device_train_batch_size,
                longest,
                self.accelerator.autocast,
                partial(deterministic_algorithms, deterministic),
            )
            if keeper.before and keeper.before.graphs:
                runner.restore(keeper.before.graphs)
            return runner

        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().evaluate(*args, **kwargs)
            except ValidationStopped:
                keeper.stop_in_validation(self)
                return {}

        def prediction_step(
            self,
            model: Any,
            inputs: dict[str, Any],
            prediction_loss_only: bool,
            ignore_keys: list[str] | None = None,
        ) -> Any:
            rows: Rows = inputs["rows"]
            count = sum(loss_tokens(row["labels"]) for row in rows)

            @torch.no_grad()
            def forward(part: Rows) -> torch.Tensor:
                if not part or keeper.asked_to_stop():
                    return torch.zeros((), device=self.args.device)
                with self.accelerator.autocast():
                    return loss(model, pack(part, self.args.device)) / count

            total = micro_batches.run(rows, forward, lambda: None)
            keeper.check_in_validation()
            micro_batches.ranks.add(total)
            return total, None, None

    return PackedTrainer
