"""Fine-tune a LoRA adapter on as much of the mix as the budget reads.

Reads data/mix.parquet and data/holdout/validation.parquet. Writes models/adapter/, metrics/train.json
and the loss curves plots/train_loss.csv and plots/validation_loss.csv.

Run as `python -m stages.train`.
"""

from typing import Any

from sft.core import provenance
from sft.core.errors import ParamError
from sft.core.files import read_parquet, write_csv, write_json
from sft.core.params import section
from sft.modeling import adapter, loading
from sft.modeling.flops import Cost, utilisation
from sft.modeling.labels import Rows, loss_tokens
from sft.modeling.loading import ModelParams
from sft.training import engines, train
from sft.training.tokenized_dataset import Budget, RowShape, read
from stages.cli import run

WARM_UP = 10  # steps


def main(values: dict[str, Any]) -> None:
    """Load the model, tokenize the budget's rows, train, and write the adapter and the account."""
    model_params = section(values, "model", ModelParams)
    params = section(values, "train", train.TrainParams)
    clock = provenance.Clock()
    train.check_machine(params, model_params.dtype)

    mix = read_parquet("data/mix.parquet", ["id", "messages"])
    held_out = read_parquet("data/holdout/validation.parquet", ["id", "messages"])
    if len(held_out) < params.validation_rows:
        raise ParamError(
            f"train.validation_rows: {params.validation_rows:,} are asked for, but "
            f"{len(held_out):,} rows are held out. Ask for fewer, or raise data.holdout.validation."
        )

    with clock.phase("load"):
        engines.prepare(params.engine)
        base = loading.resolve(model_params.reference)
        model, tokenizer = engines.load_trainable(
            params.engine,
            base,
            model_params,
            params.lora,
            params.max_length,
            params.seed,
        )
    with clock.phase("tokenize"):
        shape = RowShape(params.max_length, params.too_long, params.loss_on)
        budget = Budget.parse(params.budget, params.batch_size)
        reading = read(mix, budget, tokenizer, shape, params.seed, "mix rows")
        held = Budget(params.validation_rows, "rows")
        validation = read(held_out, held, tokenizer, shape, params.seed, "validation rows")
    with clock.phase("train"):
        logs = train.train(model, tokenizer, reading.rows, validation.rows, params, model_params.dtype)
    with clock.phase("save"):
        adapter.save(model, "models/adapter", model_params.reference)
        write_csv("plots/train_loss.csv", logs.steps)
        write_csv("plots/validation_loss.csv", logs.validation)

    distinct = len(set(reading.ids))
    clock.split("train", "validation", logs.validation_seconds)
    metrics = {
        "train_loss": {"first": logs.steps[0]["loss"], "last": logs.steps[-1]["loss"]},
        "validation_loss": {"start": logs.validation[0]["loss"], "end": logs.validation[-1]["loss"]},
        "steps": len(logs.steps),
        "rows_seen": len(reading.rows),
        "distinct_rows_seen": distinct,
        "rows_in_mix": len(mix),
        "epochs": len(reading.rows) / len(mix),
        "tokens_seen": reading.tokens,
        "loss_tokens_seen": reading.loss_tokens,
        "truncated": reading.truncated,
        "dropped": reading.dropped,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": clock.seconds,
        "tokens_per_second": round(reading.tokens / clock.seconds["train"], 1),
        "steady": steady(reading.rows, logs.step_seconds, params.batch_size, model, model_params.dtype),
        "micro_batch": logs.micro_batch,
        "peak_memory_gib": provenance.peak_memory_gib(),
        "engine": params.engine,
        "device": provenance.device_name(),
        "base_model": {"reference": model_params.reference, "resolved": base.commit},
        "versions": provenance.versions(),
    }
    write_json("metrics/train.json", metrics)
    print(
        f"train       {metrics['steps']} steps x {params.batch_size} rows: {reading.tokens:,} tokens", end=""
    )
    print(f" in {clock.seconds['train']:.0f} s ({metrics['tokens_per_second']:,} tokens/s)")
    if metrics["steady"]["tokens_per_second"]:
        used = metrics["steady"]["model_flop_utilisation"]
        of_peak = f", {used:.0%} of the card's peak" if used else ""
        print(f"steady      {metrics['steady']['tokens_per_second']:,} tokens/s{of_peak}")
    print(f"rows seen   {distinct:,} of {len(mix):,} rows of the mix ({distinct / len(mix):.2%})")
    if distinct < len(mix) / 2:
        print(
            f"            With this budget data.size hardly matters: {metrics['steps']:,} steps x "
            f"{params.batch_size} rows read {distinct:,} of {len(mix):,} rows, and would of a larger mix."
        )
    print(
        f"validation  loss {logs.validation[0]['loss']:.4f} before, {logs.validation[-1]['loss']:.4f} after"
    )
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in reading.dropped.items() if count)
    print(f"too long    {reading.truncated:,} truncated; left out: {left_out or 'none'}")


def steady(
    rows: Rows, seconds: list[float], batch_size: int, model: Any, dtype: str
) -> dict[str, float | None]:
    """Return tokens a second and model FLOP utilisation of the steps after the first WARM_UP.

    The first steps measure memory, compile kernels and fill caches. Both are None for a run that ends there.
    What CUDA graphs are recorded later counts.
    """
    if len(seconds) <= WARM_UP:
        return {"tokens_per_second": None, "model_flop_utilisation": None}
    counted = rows[WARM_UP * batch_size :]
    lengths, taken = [len(row["input_ids"]) for row in counted], sum(seconds[WARM_UP:])
    flops = Cost.of(model).training(lengths, sum(loss_tokens(row["labels"]) for row in counted))
    return {
        "tokens_per_second": round(sum(lengths) / taken, 1),
        "model_flop_utilisation": utilisation(flops, taken, provenance.device_name(), dtype),
    }


if __name__ == "__main__":
    run(main)
