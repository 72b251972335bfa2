"""Fine-tune a LoRA adapter on as much of the mix as the budget reads.

Reads data/mix.parquet and data/holdout/validation.parquet. Writes models/adapter/, metrics/train.json
and the loss curves plots/train_loss.csv and plots/validation_loss.csv.

Run as `python -m stages.train`.
"""

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from sft.core import provenance
from sft.core.errors import ParamError
from sft.core.files import read_parquet, write_csv, write_json
from sft.core.params import section
from sft.modeling import adapter, loading
from sft.modeling.loading import ModelParams
from sft.training import engines, train
from sft.training.logs import Logs, MicroBatchLog
from sft.training.throughput import Throughput, steady
from sft.training.tokenized_dataset import Budget, Reading, RowShape, read, read_validation
from sft.training.train_params import TrainParams
from stages import paths
from stages.cli import run


@dataclass
class FirstAndLast:
    """The loss of the first and of the last step."""

    first: float
    last: float


@dataclass
class StartAndEnd:
    """The validation loss before the first step and after the last."""

    start: float
    end: float


@dataclass
class BaseModel:
    """The base model as params name it, and the hub's commit that this was."""

    reference: str
    resolved: str | None


@dataclass
class TrainMetrics:
    """metrics/train.json: results first, then what was read, then what it took."""

    train_loss: FirstAndLast
    validation_loss: StartAndEnd
    validation_rows: int
    steps: int
    rows_seen: int
    distinct_rows_seen: int
    rows_in_mix: int
    epochs: float
    tokens_seen: int
    loss_tokens_seen: int
    truncated: int
    dropped: dict[str, int]
    trainable_parameters: int
    seconds: dict[str, float]
    tokens_per_second: float
    steady: Throughput
    micro_batch: MicroBatchLog
    peak_memory_gib: float
    engine: str
    device: str
    base_model: BaseModel
    versions: dict[str, str]


def main(values: dict[str, Any]) -> None:
    """Tokenize the budget's rows, load the model, train, and write the adapter and the account."""
    model_params = section(values, "model", ModelParams)
    params = section(values, "train", TrainParams)
    train.check_machine(params, model_params)
    clock = provenance.Clock()
    mix = read_parquet(paths.MIX, ["id", "messages"])
    held_out = read_held_out(params.validation_rows)

    with clock.phase("load"):
        engine = engines.prepare(params.engine)
        base = loading.resolve(model_params.reference)
        tokenizer = loading.load_tokenizer(base)
    with clock.phase("tokenize"):  # before the model is loaded, for it may fork processes
        reading, validation = tokenize(mix, held_out, tokenizer, params)
    with clock.phase("load"):
        model = engine.load(base, model_params, params.lora, params.max_length, params.seed)
    with clock.phase("train"):
        logs = train.train(model, tokenizer, reading.rows, validation.rows, params, model_params.dtype)
    with clock.phase("save"):
        adapter.save(model, paths.ADAPTER, model_params.reference)
        write_csv(paths.TRAIN_LOSS, [dict(entry) for entry in logs.steps])
        write_csv(paths.VALIDATION_LOSS, [dict(entry) for entry in logs.validation])
    clock.split("train", "validation", logs.validation_seconds)

    metrics = measured(model, model_params, base, params, len(mix), reading, validation, logs, clock)
    write_json(paths.METRICS_TRAIN, asdict(metrics))
    report(metrics, params, validation)


def read_held_out(wanted: int) -> pa.Table:
    """Read the rows held out for validation; raise UserError where there are fewer than are asked for."""
    held_out = read_parquet(paths.VALIDATION, ["id", "messages"])
    if len(held_out) < wanted:
        raise ParamError(
            f"train.validation_rows: {wanted:,} are asked for, but {len(held_out):,} rows are held out. "
            "Ask for fewer, or raise data.holdout.validation."
        )
    return held_out


def tokenize(
    mix: pa.Table, held_out: pa.Table, tokenizer: Any, params: TrainParams
) -> tuple[Reading, Reading]:
    """Tokenize what the budget reads of the mix, and the validation rows."""
    shape = RowShape(params.max_length, params.too_long, params.loss_on)
    budget = Budget.parse(params.budget, params.batch_size)
    return (
        read(mix, budget, tokenizer, shape, params.seed),
        read_validation(held_out, params.validation_rows, tokenizer, shape, params.seed),
    )


def measured(
    model: Any,
    model_params: ModelParams,
    base: loading.Resolved,
    params: TrainParams,
    rows_in_mix: int,
    reading: Reading,
    validation: Reading,
    logs: Logs,
    clock: provenance.Clock,
) -> TrainMetrics:
    """Sum up what was trained, on what, and what it took."""
    speed = steady(reading.rows, logs.step_seconds, params.batch_size, model, model_params.dtype)
    return TrainMetrics(
        train_loss=FirstAndLast(logs.steps[0]["loss"], logs.steps[-1]["loss"]),
        validation_loss=StartAndEnd(logs.validation[0]["loss"], logs.validation[-1]["loss"]),
        validation_rows=len(validation.rows),
        steps=len(logs.steps),
        rows_seen=len(reading.rows),
        distinct_rows_seen=len(set(reading.ids)),
        rows_in_mix=rows_in_mix,
        epochs=len(reading.rows) / rows_in_mix,
        tokens_seen=reading.tokens,
        loss_tokens_seen=reading.loss_tokens,
        truncated=reading.truncated,
        dropped=reading.dropped,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        seconds=clock.seconds,
        tokens_per_second=round(reading.tokens / clock.seconds["train"], 1),
        steady=speed,
        micro_batch=logs.micro_batch,
        peak_memory_gib=provenance.peak_memory_gib(),
        engine=params.engine,
        device=provenance.device_name(),
        base_model=BaseModel(model_params.reference, base.revision),
        versions=provenance.versions(),
    )


def report(metrics: TrainMetrics, params: TrainParams, validation: Reading) -> None:
    """Print what was trained on, how fast, and what it did to the validation loss."""
    seconds, distinct, mix = metrics.seconds["train"], metrics.distinct_rows_seen, metrics.rows_in_mix
    print(
        f"train       {metrics.steps} steps x {params.batch_size} rows: {metrics.tokens_seen:,} tokens "
        f"in {seconds:.0f} s ({metrics.tokens_per_second:,} tokens/s)"
    )
    if metrics.steady.tokens_per_second:
        used = metrics.steady.model_flop_utilisation
        of_peak = f", {used:.0%} of the card's peak" if used else ""
        print(f"steady      {metrics.steady.tokens_per_second:,} tokens/s{of_peak}")
    print(f"rows seen   {distinct:,} of {mix:,} rows of the mix ({distinct / mix:.2%})")
    if distinct < mix / 2:
        print(
            f"            With this budget data.size hardly matters: {metrics.steps:,} steps x "
            f"{params.batch_size} rows read {distinct:,} of {mix:,} rows, and would of a larger mix."
        )
    loss = metrics.validation_loss
    print(f"validation  loss {loss.start:.4f} before, {loss.end:.4f} after")
    if metrics.validation_rows < params.validation_rows:
        print(
            f"            on {metrics.validation_rows:,} rows, not the {params.validation_rows:,} of "
            f"train.validation_rows: the others are left out ({listed(validation.dropped)})"
        )
    print(f"too long    {metrics.truncated:,} truncated; left out: {listed(metrics.dropped)}")


def listed(dropped: dict[str, int]) -> str:
    """Write counts by reason as text."""
    return ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count) or "none"


if __name__ == "__main__":
    run(main)
