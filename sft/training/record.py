"""The record of a training: what was read, what came of it, and what it took."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft.core import provenance
from sft.modeling.loading import ModelParams, Resolved
from sft.training import kinds_read
from sft.training.budget import Reading
from sft.training.kinds_read import KindRead
from sft.training.logs import Logs, MicroBatchLog
from sft.training.mixture import Mix
from sft.training.refusals import Example
from sft.training.throughput import Throughput, steady
from sft.training.train_params import TrainParams


@dataclass
class TrainMetrics:
    """metrics/train.json: the loss of the last step, the validation loss after it, and what was read."""

    train_loss: float
    validation_loss: float
    rows: int
    tokens: int


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
    """The base model as params name it, its commit or digest, and how its weights are stored."""

    reference: str
    resolved: str | None
    weights: str


@dataclass
class TrainProvenance:
    """provenance/train.json: what was read, then what it took."""

    rows_seen: int
    distinct_rows_seen: int
    tokens_seen: int
    epochs: float
    rows_in_mix: int
    kinds: dict[str, KindRead]
    steps: int
    loss_tokens_seen: int
    truncated: int
    dropped: dict[str, int]
    refused: dict[str, int]
    refused_examples: dict[str, list[Example]]
    thoughtless_turns: int
    position_limit: int | None
    train_loss: FirstAndLast
    validation_loss: StartAndEnd
    validation_rows: int
    validation_kinds: dict[str, int]
    trainable_parameters: int
    seconds: dict[str, float]
    resumed_at_steps: list[int] | None  # None where there are none: `dvc plots` takes an empty list for data
    tokens_per_second: float
    steady: Throughput
    micro_batch: MicroBatchLog
    peak_memory_gib: float
    engine: str
    devices: int
    device: str
    base_model: BaseModel
    versions: dict[str, str]


def record(
    model: Any,
    model_params: ModelParams,
    base: Resolved,
    params: TrainParams,
    positions: int | None,
    mix: Mix,
    reading: Reading,
    validation: Reading,
    logs: Logs,
    clock: provenance.Clock,
) -> TrainProvenance:
    """Sum up what was trained, on what, and what it took."""
    speed = steady(
        reading.rows,
        logs.step_seconds,
        logs.resumed_at_steps,
        params.batch_size,
        model,
        model_params.dtype,
        params.devices,
    )
    rows_in_mix = len(mix.rows)
    return TrainProvenance(
        rows_seen=len(reading.rows),
        distinct_rows_seen=len(set(reading.ids)),
        tokens_seen=reading.tokens,
        epochs=len(reading.rows) / rows_in_mix,
        rows_in_mix=rows_in_mix,
        kinds=kinds_read.kinds_read(reading, mix.in_mix, mix.available, mix.weights),
        steps=len(logs.steps),
        loss_tokens_seen=reading.loss_tokens,
        truncated=reading.truncated,
        dropped=reading.dropped,
        refused=reading.refusals.counts,
        refused_examples=reading.refusals.examples,
        thoughtless_turns=reading.thoughtless_turns,
        position_limit=positions,
        train_loss=FirstAndLast(logs.steps[0]["loss"], logs.steps[-1]["loss"]),
        validation_loss=StartAndEnd(logs.validation[0]["loss"], logs.validation[-1]["loss"]),
        validation_rows=len(validation.rows),
        validation_kinds={kind: rows for kind, (rows, _) in validation.by_kind().items()},
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        seconds=clock.seconds,
        resumed_at_steps=logs.resumed_at_steps or None,
        tokens_per_second=round(reading.tokens / clock.seconds["train"], 1),
        steady=speed,
        micro_batch=logs.micro_batch,
        peak_memory_gib=provenance.peak_memory_gib(),
        engine=params.engine,
        devices=params.devices,
        device=provenance.device_name(),
        base_model=BaseModel(model_params.reference, base.revision, base.weights),
        versions=provenance.versions(),
    )


def metrics(recorded: TrainProvenance) -> TrainMetrics:
    """Pick the results."""
    return TrainMetrics(
        train_loss=recorded.train_loss.last,
        validation_loss=recorded.validation_loss.end,
        rows=recorded.rows_seen,
        tokens=recorded.tokens_seen,
    )


def lines(
    recorded: TrainProvenance, params: TrainParams, mix: Mix, reading: Reading, validation: Reading
) -> list[str]:
    """Say what was trained on, how fast, and what it did to the validation loss."""
    seconds, distinct, rows = recorded.seconds["train"], recorded.distinct_rows_seen, recorded.rows_in_mix
    said = [
        f"train       {recorded.steps} steps x {params.batch_size} rows: {recorded.tokens_seen:,} tokens "
        f"in {seconds:.0f} s ({recorded.tokens_per_second:,} tokens/s)"
    ]
    if recorded.resumed_at_steps:
        at = ", ".join(f"{step:,}" for step in recorded.resumed_at_steps)
        said.append(f"resumed     at step {at}; the seconds are those of all its runs, up to there")
    if recorded.steady.tokens_per_second:
        used = recorded.steady.model_flop_utilisation
        cards = "card's" if params.devices == 1 else "cards'"
        of_peak = f", {used:.0%} of the {cards} peak" if used else ""
        said.append(f"steady      {recorded.steady.tokens_per_second:,} tokens/s{of_peak}")
    said.append(f"rows seen   {distinct:,} of {rows:,} rows of the mix ({distinct / rows:.2%})")
    said += [f"{'':<12}{line}" for line in kinds_read.summary(recorded.kinds)]
    loss = recorded.validation_loss
    said.append(f"validation  loss {loss.start:.4f} before, {loss.end:.4f} after")
    if mix.read and not mix.validated:
        said.append("            on rows of other kinds: none is held out of those that data.weights reads")
    if recorded.validation_rows < params.validation_rows:
        of_kinds = " of the kinds that are read" if mix.validated else ""
        said.append(
            f"            on {recorded.validation_rows:,} rows, not the {params.validation_rows:,} of "
            f"train.validation_rows: {len(mix.held_out):,}{of_kinds} are held out, and of these left out: "
            f"{_above_0(validation.dropped)}"
        )
    limit = recorded.position_limit
    of_positions = f" (the model has {limit:,} positions)" if limit else ""
    said.append(
        f"too long    {recorded.truncated:,} truncated at {params.max_length:,} tokens{of_positions}; "
        f"left out: {_above_0(recorded.dropped)}"
    )
    refused = reading.refusals.lines()
    said += [f"{'' if number else 'refused':<12}{line}" for number, line in enumerate(refused)]
    if recorded.thoughtless_turns:
        said.append(
            f"reasoning   {recorded.thoughtless_turns:,} answers are not in the loss: the chat template "
            "leaves out their thoughts, as those before the last question"
        )
    return said


def _above_0(counts: Mapping[str, int]) -> str:
    """Write the counts above 0 by name as text."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"
