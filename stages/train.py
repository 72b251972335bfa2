"""Fine-tune a LoRA adapter on as much of the mix as the budget reads.

Reads data/mix.parquet and data/holdout/validation.parquet. Writes models/adapter/, metrics/train.json, the
record of the run provenance/train.json, and the loss curves plots/train_loss.csv and
plots/validation_loss.csv.

Run as `python -m stages.train`.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core import provenance
from sft.core.errors import ParamError, UserError
from sft.core.files import read_parquet, write_csv, write_json
from sft.core.params import section
from sft.modeling import adapter, loading
from sft.modeling.loading import ModelParams
from sft.modeling.position_limit import position_limit
from sft.training import engines, kinds_read, refusals, train
from sft.training.budget import Budget, Reading
from sft.training.kinds_read import KindRead
from sft.training.logs import Logs, MicroBatchLog
from sft.training.mixture import MixtureParams, Weights, weights_of_kinds
from sft.training.refusals import Example
from sft.training.throughput import Throughput, steady
from sft.training.tokenized_dataset import read, read_validation
from sft.training.tokenizing import RowShape
from sft.training.train_params import TrainParams
from stages import paths
from stages.cli import run


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
    tokens_per_second: float
    steady: Throughput
    micro_batch: MicroBatchLog
    peak_memory_gib: float
    engine: str
    device: str
    base_model: BaseModel
    versions: dict[str, str]


@dataclass
class Mix:
    """The mix's rows, how many there are of each kind and would be in the largest mix, and the held-out rows.

    `read` has the weight of each kind that is read, none where rows are read as the mix has them. `held_out`
    has rows of these kinds, or of all kinds where none of these is held out; `validated` their weights.
    """

    rows: pa.Table
    in_mix: Counter[str]
    available: dict[str, int]
    held_out: pa.Table
    weights: Weights
    read: dict[str, float]
    validated: dict[str, float]


def main(values: dict[str, Any]) -> None:
    """Tokenize the budget's rows, load the model, train, and write the adapter and the account."""
    model_params = section(values, "model", ModelParams)
    mixture = section(values, "data", MixtureParams)
    params = section(values, "train", TrainParams)
    train.check_machine(params, model_params)
    clock = provenance.Clock()
    mix = read_mix(mixture)

    with clock.phase("load"):
        engine = engines.prepare(params.engine)
        base = loading.resolve(model_params.reference)
        positions = position_limit(base)
        train.check_positions(params, positions, model_params.reference)
        tokenizer = loading.load_tokenizer(base)
    with clock.phase("tokenize"):  # before the model is loaded, for it may fork processes
        reading, validation = tokenize(mix, tokenizer, params)
    with clock.phase("load"):
        model = engine.load(base, model_params, params.lora, params.max_length, params.seed)
    with clock.phase("train"):
        logs = train.train(model, tokenizer, reading.rows, validation.rows, params, model_params.dtype)
    with clock.phase("save"):
        adapter.save(model, paths.ADAPTER, model_params.reference, base.revision)
        write_csv(paths.TRAIN_LOSS, [dict(entry) for entry in logs.steps])
        write_csv(paths.VALIDATION_LOSS, [dict(entry) for entry in logs.validation])
    clock.split("train", "validation", logs.validation_seconds)

    recorded = record(model, model_params, base, params, positions, mix, reading, validation, logs, clock)
    write_json(paths.PROVENANCE_TRAIN, asdict(recorded))
    write_json(paths.METRICS_TRAIN, asdict(metrics(recorded)))
    report(recorded, params, mix, reading, validation)


def read_mix(mixture: MixtureParams) -> Mix:
    """Read the mix and the rows held out for validation.

    Raises ParamError for weights that do not fit the mix, and where no row is held out; UserError for a mix
    that does not name its kinds.
    """
    rows = read_parquet(paths.MIX, ["id", "kind", "messages", "tools"])
    held_out = read_parquet(paths.VALIDATION, ["id", "kind", "messages", "tools"])
    in_mix = Counter(rows["kind"].to_pylist())
    kinds = (rows.schema.metadata or {}).get(b"kinds")
    if kinds is None:
        raise UserError(
            f"{paths.MIX}: it does not name the kinds of its rows: it is older than this code. "
            "Make it again: dvc repro mix"
        )
    available = json.loads(kinds)
    weights = weights_of_kinds(mixture.weights, in_mix, list(available))
    if not len(held_out):
        raise ParamError(
            "train.validation_rows: no row is held out to validate with. Raise data.holdout.validation (0.05 "
            "is a twentieth of base's items), or make a task of a source: data.holdout.validation_per_task "
            "rows of each task that is trained on are held out at least."
        )
    of_read = held_out.filter(pc.is_in(held_out["kind"], pa.array(list(weights), pa.string())))
    if len(of_read):
        return Mix(rows, in_mix, available, of_read, mixture.weights, weights, weights)
    return Mix(rows, in_mix, available, held_out, mixture.weights, weights, {})


def tokenize(mix: Mix, tokenizer: Any, params: TrainParams) -> tuple[Reading, Reading]:
    """Tokenize what the budget reads of the mix, and the validation rows.

    Raises ParamError where the chat template refuses more of the mix than `train.max_refused`.
    """
    shape = RowShape(
        params.max_length, params.too_long, params.loss_on, params.reasoning, params.reasoning_fallback
    )
    budget = Budget.parse(params.budget, params.batch_size)
    reading = read(mix.rows, budget, tokenizer, shape, params.seed, mix.read)
    refusals.check(reading.refusals, reading.passed, params.max_refused)
    return reading, read_validation(
        mix.held_out, params.validation_rows, tokenizer, shape, params.seed, mix.validated
    )


def record(
    model: Any,
    model_params: ModelParams,
    base: loading.Resolved,
    params: TrainParams,
    positions: int | None,
    mix: Mix,
    reading: Reading,
    validation: Reading,
    logs: Logs,
    clock: provenance.Clock,
) -> TrainProvenance:
    """Sum up what was trained, on what, and what it took."""
    speed = steady(reading.rows, logs.step_seconds, params.batch_size, model, model_params.dtype)
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
        tokens_per_second=round(reading.tokens / clock.seconds["train"], 1),
        steady=speed,
        micro_batch=logs.micro_batch,
        peak_memory_gib=provenance.peak_memory_gib(),
        engine=params.engine,
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


def report(
    recorded: TrainProvenance, params: TrainParams, mix: Mix, reading: Reading, validation: Reading
) -> None:
    """Print what was trained on, how fast, and what it did to the validation loss."""
    seconds, distinct, rows = recorded.seconds["train"], recorded.distinct_rows_seen, recorded.rows_in_mix
    print(
        f"train       {recorded.steps} steps x {params.batch_size} rows: {recorded.tokens_seen:,} tokens "
        f"in {seconds:.0f} s ({recorded.tokens_per_second:,} tokens/s)"
    )
    if recorded.steady.tokens_per_second:
        used = recorded.steady.model_flop_utilisation
        of_peak = f", {used:.0%} of the card's peak" if used else ""
        print(f"steady      {recorded.steady.tokens_per_second:,} tokens/s{of_peak}")
    print(f"rows seen   {distinct:,} of {rows:,} rows of the mix ({distinct / rows:.2%})")
    for line in kinds_read.summary(recorded.kinds):
        print(f"{'':<12}{line}")
    loss = recorded.validation_loss
    print(f"validation  loss {loss.start:.4f} before, {loss.end:.4f} after")
    if mix.read and not mix.validated:
        print("            on rows of other kinds: none is held out of those that data.weights reads")
    if recorded.validation_rows < params.validation_rows:
        of_kinds = " of the kinds that are read" if mix.validated else ""
        print(
            f"            on {recorded.validation_rows:,} rows, not the {params.validation_rows:,} of "
            f"train.validation_rows: {len(mix.held_out):,}{of_kinds} are held out, and of these left out: "
            f"{above_0(validation.dropped)}"
        )
    limit = recorded.position_limit
    of_positions = f" (the model has {limit:,} positions)" if limit else ""
    print(
        f"too long    {recorded.truncated:,} truncated at {params.max_length:,} tokens{of_positions}; "
        f"left out: {above_0(recorded.dropped)}"
    )
    for number, line in enumerate(reading.refusals.lines()):
        print(f"{'' if number else 'refused':<12}{line}")
    if recorded.thoughtless_turns:
        print(
            f"reasoning   {recorded.thoughtless_turns:,} answers are not in the loss: the chat template "
            "leaves out their thoughts, as those before the last question"
        )


def above_0(counts: Mapping[str, int]) -> str:
    """Write the counts above 0 by name as text."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"


if __name__ == "__main__":
    run(main)
