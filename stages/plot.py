"""Draw the loss curves, ROUGE of base and tuned, and what the mix is made of.

Reads metrics/ and plots/*.csv of the stages before, and data/mix.parquet. Writes plots/*.png, and
plots/rouge.csv, plots/rouge_l.csv and plots/lengths.csv for DVC's own plots.

Run as `python -m stages.plot`.
"""

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft.core.errors import UserError
from sft.core.files import read_json, read_parquet, write_csv
from sft.core.params import Count, Params, Text, section
from sft.core.seeded_order import order
from sft.evaluation.rouge import VARIANTS
from sft.modeling import loading
from sft.modeling.chat_template import TemplateRefusal, render
from sft.plotting import pipeline
from stages import paths
from stages.cli import run


class PlotParams(Params):
    """`plot`: dots an inch, and how many rows of the mix the length histogram samples."""

    dpi: Count
    length_sample: Count


class TokenizerParams(Params):
    """`model`: the reference, whose tokenizer counts the tokens."""

    reference: Text


class LimitParams(Params):
    """`train`: the length limit, drawn into the histogram."""

    max_length: Count


def main(values: dict[str, Any]) -> None:
    """Read what the stages before have measured and draw it."""
    params = section(values, "plot", PlotParams)
    limit = section(values, "train", LimitParams).max_length

    train, validation = read_csv(paths.TRAIN_LOSS), read_csv(paths.VALIDATION_LOSS)
    pipeline.loss_curves(paths.LOSS_FIGURE, train, validation, params.dpi)

    rouge = rouge_rows(read_json(paths.METRICS_BASELINE), read_json(paths.METRICS_EVALUATE))
    write_csv(paths.ROUGE, rouge)
    write_csv(paths.ROUGE_L, bars(rouge))
    pipeline.rouge_bars(paths.ROUGE_FIGURE, rouge, params.dpi)

    pipeline.composition(paths.COMPOSITION_FIGURE, read_json(paths.METRICS_MIX)["composition"], params.dpi)

    lengths = token_lengths(section(values, "model", TokenizerParams).reference, params.length_sample)
    write_csv(paths.LENGTHS, histogram(lengths))
    pipeline.token_lengths(paths.LENGTHS_FIGURE, lengths, limit, params.dpi)
    print(f"plots  loss.png, rouge.png, composition.png, lengths.png ({len(lengths):,} rows sampled)")


def read_csv(path: str) -> list[dict[str, float]]:
    """Read a CSV file of numbers."""
    if not Path(path).exists():
        raise UserError(f"{path}: no such file. Run the stage that writes it: dvc repro")
    with Path(path).open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def rouge_rows(base: dict[str, Any], tuned: dict[str, Any]) -> list[dict[str, Any]]:
    """List task, model, variant, mean and std, for the tasks and their average."""
    return [
        {"task": task, "model": model, "variant": variant, **metrics[task][variant]}
        for variant in VARIANTS
        for task in tuned["difference"]
        for model, metrics in (("base", base), ("tuned", tuned))
    ]


def bars(rouge: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """List ROUGE-L by task and model, one row a bar: DVC's bar plots sum the rows of a bar."""
    return [
        {"task": f"{row['task']}, {row['model']}", "rougeL": row["mean"]}
        for row in rouge
        if row["variant"] == "rougeL"
    ]


def token_lengths(reference: str, sample: int) -> list[int]:
    """Count the tokens of a seeded sample of the mix's rows, as the model's template renders them."""
    mix = read_parquet(paths.MIX, ["id", "messages"])
    chosen = mix.take(pa.array(order("lengths", mix["id"])[:sample]))
    tokenizer = loading.load_tokenizer(loading.resolve(reference))
    texts = []
    for messages in chosen["messages"].to_pylist():
        try:
            texts.append(render(tokenizer, messages))
        except TemplateRefusal:
            continue
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def histogram(lengths: list[int]) -> list[dict[str, int]]:
    """Count the lengths by bins from `tokens` to the next bin's, each a half-power of two."""
    edges = pipeline.length_edges(max(lengths))
    counts = [sum(low <= length < high for length in lengths) for low, high in pairwise(edges)]
    return [{"tokens": low, "rows": count} for low, count in zip(edges, counts, strict=False)]


if __name__ == "__main__":
    run(main)
