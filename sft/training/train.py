"""Supervised fine-tuning by TRL's SFTTrainer on rows that are tokenized and ordered beforehand."""

import importlib.util
import tempfile
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from sft.core.errors import ParamError
from sft.distributed.ranks import ALONE, Ranks
from sft.modeling.labels import Rows
from sft.modeling.loading import ModelParams, check_4bit
from sft.training import compat
from sft.training.checkpoints import Checkpoints
from sft.training.engines import ENGINES
from sft.training.logs import Logs, MicroBatchLog
from sft.training.trackers import Reports
from sft.training.train_params import TrainParams

if TYPE_CHECKING:
    from sft.training.keeper import Keeper
    from sft.training.micro_batches import MicroBatches


def train(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    validation: Rows,
    params: TrainParams,
    dtype: str,
    checkpoints: Checkpoints | None = None,
    ranks: Ranks = ALONE,
    reports: Reports | None = None,
) -> Logs:
    """Train the PEFT `model` in place on `rows`, in their order, once: in steps of `params.batch_size`.

    `model` is what the engine `params.engine` has loaded. `rows` have `input_ids` and `labels`, as arrays or
    lists. Validation loss is measured before the first step, every `validation_every` steps and after the
    last. Where there are `checkpoints` of the same training, it goes on from the newest, to the same bits.
    Of several `ranks` each is called with the same rows and an equal model, takes rows of its own of every
    step, and ends with the same weights. The first says how it goes to what `reports` name, which changes
    nothing of the training.
    Raises Interrupted where they say that it is to stop; UserError where the loss stops being a number, and
    where not one row fits the memory.
    """
    from sft.training.callbacks import divergence_check, step_timer
    from sft.training.chunked_loss import check_head, loss_sum
    from sft.training.cuda_graphs import capturable_tokens
    from sft.training.keeper import Keeper
    from sft.training.micro_batches import fit
    from sft.training.packed_trainer import packed_trainer
    from sft.training.reporter import Pace, Reporter
    from sft.training.trainer_config import trainer_config

    engine = ENGINES[params.engine]
    loss = partial(loss_sum, inputs=engine.inputs)
    check_head(model)
    _set_up(params.seed)
    keeper = Keeper(checkpoints, ranks)
    before = keeper.before
    with (
        compat.as_one_process(),
        compat.without_input_casting(model),
        tempfile.TemporaryDirectory() as scratch,
    ):
        micro_batches = fit(
            model,
            [*rows, *validation],
            loss,
            engine.checkpointing,
            params.micro_batch,
            params.gradient_checkpointing,
            dtype,
            before.cut if before else None,
            ranks,
        )
        config = trainer_config(
            params,
            dtype,
            scratch,
            len(rows),
            len(validation),
            micro_batches.checkpointing,
            keeper.validate_first,
            ranks.rank,
        )
        if before:
            captured = before.captured_tokens
        else:
            captured = capturable_tokens(model, dtype, micro_batches) if engine.can_capture_graphs else 0
            micro_batches.reserve(captured)
        longest = max(len(row["input_ids"]) for row in rows)
        trainer_class = packed_trainer(micro_batches, loss, params.deterministic, captured, longest, keeper)
        trainer = _trainer(trainer_class, model, tokenizer, rows, validation, config)
        timer = step_timer(before.step_seconds if before else [])
        keeper.begin(micro_batches, captured, timer)
        clear = checkpoints.clear if checkpoints else lambda: None
        callbacks = [timer, divergence_check(params.learning_rate, dtype, clear), keeper.callback()]
        reporter = None
        if reports and ranks.first:
            pace = Pace(rows, params.batch_size, timer.seconds)
            reporter = Reporter(reports, pace, keeper.reported, before.step if before else 0)
            callbacks.insert(1, reporter.callback())  # a loss that ends the training is told too
        for callback in callbacks:
            trainer.add_callback(callback)
        with reporter.reporting() if reporter else nullcontext():
            keeper.leave_out(reporter.waited if reporter else 0.0)
            _run(trainer, keeper)
    ranks.check_equal([p for p in model.parameters() if p.requires_grad])
    graphs = len(trainer.graph_runner.graphs) if trainer.graph_runner else 0
    work = _micro_batch_log(micro_batches, captured, graphs)
    return Logs.of(
        trainer.state.log_history,
        timer.seconds,
        work,
        keeper.seconds_before,
        keeper.resumed_at_steps,
        reporter.waited if reporter else 0.0,
    )


def check_machine(params: TrainParams, model: ModelParams) -> None:
    """Raise ParamError for what this machine, or the packages on it, cannot do, before other work."""
    import torch

    if model.load_in_4bit:
        check_4bit("cuda" if torch.cuda.is_available() else "cpu")
    if model.dtype == "float16" and not torch.cuda.is_available():
        raise ParamError("model.dtype: float16 trains on a GPU only. Use bfloat16 or float32 here.")
    if params.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ParamError(
            "train.optimizer: adamw_8bit needs bitsandbytes, which is not installed. "
            "Install it with pip install -r requirements.txt, or use adamw_torch."
        )


def check_positions(params: TrainParams, limit: int | None, reference: str) -> None:
    """Raise ParamError if rows may be longer than the model has positions (None: it names no limit)."""
    if limit is not None and params.max_length > limit:
        raise ParamError(
            f"train.max_length: {params.max_length:,} tokens are more than the {limit:,} positions that "
            f"{reference} has (max_position_embeddings in its config.json, and its rope scaling). Set "
            f"train.max_length to {limit:,} or less, so that longer rows are truncated or dropped "
            "(train.too_long), or use a model with more positions."
        )


def _set_up(seed: int) -> None:
    """Prepare the packages: quiet, seeded, and without attention that plans anew for every length."""
    import torch
    from transformers import set_seed
    from transformers.utils import logging

    logging.set_verbosity_error()
    if torch.cuda.is_available():
        # Where rows are attended to one by one, cuDNN's plans cost more than the attention itself.
        torch.backends.cuda.enable_cudnn_sdp(False)
    set_seed(seed)


def _trainer(
    trainer_class: Any, model: Any, tokenizer: Any, rows: Rows, validation: Rows, config: Any
) -> Any:
    """Make the trainer, and leave the LoRA's weights in the type that they have."""
    from datasets import Dataset

    from sft.training.packed_trainer import collate

    weights = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    trainer = trainer_class(
        model=model,
        args=config,
        data_collator=collate,
        train_dataset=Dataset.from_list(rows).with_format("numpy"),
        eval_dataset=Dataset.from_list(validation).with_format("numpy"),
        processing_class=tokenizer,
    )
    # The trainer makes the LoRA of a 4-bit model 16-bit, in which small updates are lost.
    for name, weight in weights.items():
        model.get_parameter(name).data = weight
    return trainer


def _run(trainer: Any, keeper: "Keeper") -> None:
    """Train, showing one progress bar; raise Interrupted where training has stopped before its end."""
    from transformers import PrinterCallback

    from sft.training.callbacks import progress_bar

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(bar := progress_bar())
    try:
        trainer.train(resume_from_checkpoint=str(keeper.folder) if keeper.folder else None)
    finally:
        bar.close()
    if keeper.stopped:
        keeper.ranks.any(True)  # the others end after the first, which may be saving
        raise keeper.interrupted(trainer.state)


def _micro_batch_log(micro_batches: "MicroBatches", captured_tokens: int, graphs: int) -> MicroBatchLog:
    size = {micro_batches.unit: micro_batches.limit}
    return {
        **size,  # type: ignore[typeddict-item]
        "gradient_checkpointing": micro_batches.checkpointing,
        "out_of_memory": micro_batches.halvings,
        "captured_tokens": captured_tokens,
        "graphs": graphs,
    }
