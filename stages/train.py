"""Fine-tune a LoRA adapter on as much of the mix as the budget reads.

Reads data/mix/ and data/holdout/validation.parquet. Writes models/adapter/, metrics/train.json, the
record of the run provenance/train.json, and the loss curves plots/train_loss.csv and
plots/validation_loss.csv. Stopped or killed, it goes on from its last checkpoint when it is run again on the
same inputs; the environment variable SFT_CHECKPOINT_SECONDS says how many seconds there are between two. With
`train.devices` it runs in as many processes, of which the first writes and prints. SFT_REPORT_TO names the
experiment trackers that it reports to (stages/reporting.py).

Run as `python -m stages.train`.
"""

import json
import math
import os
from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core import provenance
from sft.core.errors import ParamError, UserError
from sft.core.files import read_parquet, write_csv, write_json
from sft.core.params import section
from sft.distributed.ranks import ALONE, Ranks
from sft.modeling import adapter, loading
from sft.modeling.loading import ModelParams
from sft.modeling.position_limit import position_limit
from sft.training import engines, record, refusals, train
from sft.training.budget import Budget, Reading
from sft.training.checkpoints import Checkpoints, Interrupted
from sft.training.mixture import Mix, MixtureParams, weights_of_kinds
from sft.training.stored_rows import COLUMNS, ShardRows, TableRows
from sft.training.tokenized_dataset import read, read_validation
from sft.training.tokenizing import RowShape
from sft.training.train_params import TrainParams
from stages import inputs, paths, ranks, reporting, stopping, work


def devices(values: dict[str, Any]) -> int:
    """Return how many devices train."""
    return section(values, "train", TrainParams).devices


def main(values: dict[str, Any], among: Ranks = ALONE) -> None:
    """Tokenize the budget's rows, load the model, train, and write the adapter and the account."""
    model_params = section(values, "model", ModelParams)
    mixture = section(values, "data", MixtureParams)
    params = section(values, "train", TrainParams)
    train.check_machine(params, model_params)
    interval, reports = checkpoint_seconds(), reporting.report_to(values)
    begun = inputs.of("train")
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
    others = {"model": base.revision or work.content(base.path)}
    with work.folder(begun if among.first else None, others) as folder:  # until the last output is written
        checkpoints = Checkpoints(folder, interval=interval, check=begun.check if begun else lambda: None)
        with clock.phase("load"):
            model = engine.load(base, model_params, params.lora, params.max_length, params.seed)
        with clock.phase("train"), stopping.deferred() as checkpoints.stopping:
            try:
                logs = train.train(
                    model,
                    tokenizer,
                    reading.rows,
                    validation.rows,
                    params,
                    model_params.dtype,
                    checkpoints,
                    among,
                    reports,
                )
            except Interrupted as at:
                raise checkpoints.stopping.stopped(how_far(at)) from None
        if not among.first:
            return
        with clock.phase("save"):
            adapter.save(model, paths.ADAPTER, model_params.reference, base.revision)
            write_csv(paths.TRAIN_LOSS, [dict(entry) for entry in logs.steps])
            write_csv(paths.VALIDATION_LOSS, [dict(entry) for entry in logs.validation])
        clock.add("train", logs.seconds_before)
        clock.split("train", "validation", logs.validation_seconds)
        if logs.reporting_seconds:
            clock.split("train", "reporting", logs.reporting_seconds)

        recorded = record.record(
            model, model_params, base, params, positions, mix, reading, validation, logs, clock
        )
        write_json(paths.PROVENANCE_TRAIN, asdict(recorded))
        write_json(paths.METRICS_TRAIN, asdict(record.metrics(recorded)))
        print("\n".join(record.lines(recorded, params, mix, reading, validation)))


def checkpoint_seconds() -> float | None:
    """Return how many seconds the environment asks for between two checkpoints; None where it does not.

    Raises UserError for what is no such number.
    """
    value = os.environ.get("SFT_CHECKPOINT_SECONDS")
    try:
        seconds = None if value is None else float(value)
    except ValueError:
        seconds = -1.0
    if seconds is not None and not 0 <= seconds < math.inf:
        raise UserError(f"SFT_CHECKPOINT_SECONDS: {value!r} is no number of seconds, which is 0 or more.")
    return seconds


def how_far(at: Interrupted) -> str:
    """Say how far training has come, and what the next run does."""
    next_run = "begins anew" if at.kept is None else "goes on from there"
    if at.kept not in (None, at.step):
        next_run = f"goes on from step {at.kept:,}"
    return f", at step {at.step:,} of {at.steps:,}; the same command again {next_run}"


def read_mix(mixture: MixtureParams) -> Mix:
    """Read the mix and the rows held out for validation.

    Raises ParamError for weights that do not fit the mix, and where no row is held out; UserError for a mix
    that does not name its kinds.
    """
    rows = ShardRows(paths.MIX)
    held_out = read_parquet(paths.VALIDATION, COLUMNS)
    counts = pc.value_counts(rows.index["kind"]).to_pylist()
    in_mix = Counter(dict(sorted((entry["values"], entry["counts"]) for entry in counts)))
    kinds = (rows.index.schema.metadata or {}).get(b"kinds")
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
        TableRows(mix.held_out), params.validation_rows, tokenizer, shape, params.seed, mix.validated
    )


if __name__ == "__main__":
    ranks.run(main, devices, "train.devices", "stages.train")
