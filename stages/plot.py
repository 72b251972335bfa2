"""Draw the loss curves, ROUGE of base and tuned, and what the mix is made of.

Reads metrics/ and plots/*.csv of the stages before, and data/mix.parquet. Writes plots/*.png, and
plots/rouge.csv, plots/rouge_l.csv and plots/lengths.csv for DVC's own plots.

Run as `python -m stages.plot`.
"""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sft.core.errors import MissingFile
from sft.core.files import read_json, read_parquet, write_csv
from sft.core.params import Count, Params, Text, section
from sft.core.seeded_order import order
from sft.modeling import loading
from sft.modeling.chat_template import TemplateRefusal, render
from sft.plotting import pipeline
from stages import paths
from stages.cli import run

# Curves and bars that DVC's own plots draw, and the figures.
ROUGE = "plots/rouge.csv"
ROUGE_L = "plots/rouge_l.csv"
LENGTHS = "plots/lengths.csv"
LOSS_FIGURE = "plots/loss.png"
ROUGE_FIGURE = "plots/rouge.png"
COMPOSITION_FIGURE = "plots/composition.png"
LENGTHS_FIGURE = "plots/lengths.png"


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
    tokenizer = section(values, "model", TokenizerParams)
    limit = section(values, "train", LimitParams)
    plot_loss(params.dpi)
    plot_rouge(params.dpi)
    plot_composition(params.dpi)
    plot_lengths(tokenizer.reference, limit.max_length, params)
    figures = (LOSS_FIGURE, ROUGE_FIGURE, COMPOSITION_FIGURE, LENGTHS_FIGURE)
    print(f"plots  {', '.join(figures)}")


def plot_loss(dpi: int) -> None:
    """Draw the loss curves of training and validation."""
    train, validation = read_csv(paths.TRAIN_LOSS), read_csv(paths.VALIDATION_LOSS)
    pipeline.loss_curves(LOSS_FIGURE, train, validation, dpi)


def plot_rouge(dpi: int) -> None:
    """Draw ROUGE of the base model and of the adapter, task by task, and write what is drawn."""
    base, tuned = read_json(paths.METRICS_BASELINE), read_json(paths.METRICS_EVALUATE)
    rows = pipeline.rouge_rows(base, tuned)
    write_csv(ROUGE, rows)
    write_csv(ROUGE_L, bars(rows, "rougeL"))
    pipeline.rouge_bars(ROUGE_FIGURE, rows, dpi)


def bars(rows: list[dict[str, Any]], variant: str) -> list[dict[str, Any]]:
    """List one variant by task and model, one row a bar: DVC's bar plots sum the rows of a bar."""
    return [
        {"task": f"{row['task']}, {row['model']}", variant: row["mean"]}
        for row in rows
        if row["variant"] == variant
    ]


def plot_composition(dpi: int) -> None:
    """Draw how many rows of each kind the mix has."""
    kinds = pc.value_counts(read_parquet(paths.MIX, ["kind"])["kind"]).to_pylist()
    counts = {entry["values"]: entry["counts"] for entry in kinds}
    pipeline.composition(COMPOSITION_FIGURE, dict(sorted(counts.items())), dpi)


def plot_lengths(reference: str, limit: int, params: PlotParams) -> None:
    """Draw how long the mix's rows are in tokens, and write what is drawn."""
    lengths = token_lengths(reference, params.length_sample)
    write_csv(LENGTHS, pipeline.histogram(lengths))
    pipeline.token_lengths(LENGTHS_FIGURE, lengths, limit, params.dpi)


def read_csv(path: str) -> list[dict[str, float]]:
    """Read a CSV file of numbers; raises MissingFile where it is not there."""
    if not Path(path).exists():
        raise MissingFile(path)
    with Path(path).open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


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


if __name__ == "__main__":
    run(main)
