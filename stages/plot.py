"""Draw what the adapter gained over the base model, ROUGE of both, the loss curves, and the mix.

Reads metrics/ and plots/*.csv of the stages before, and data/mix/. Writes plots/*.png, and
plots/lengths.csv for DVC's own plots.

Run as `python -m stages.plot`.
"""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from sft.core import shard_rows, shards
from sft.core.files import read_json, write_csv
from sft.core.params import section
from sft.core.row_schema import conversation
from sft.core.seeded_order import order
from sft.modeling import loading
from sft.modeling.chat_template import TemplateRefusal, render
from sft.plotting import gain, pipeline
from stages import paths
from stages.cli import run
from stages.gain_file import read_csv, read_gains
from stages.plot_params import LimitParams, PlotParams, TokenizerParams

# What DVC's own plots draw, and the figures.
LENGTHS = "plots/lengths.csv"
GAIN_FIGURE = "plots/gain.png"
LOSS_FIGURE = "plots/loss.png"
ROUGE_FIGURE = "plots/rouge.png"
COMPOSITION_FIGURE = "plots/composition.png"
LENGTHS_FIGURE = "plots/lengths.png"


def main(values: dict[str, Any]) -> None:
    """Read what the stages before have measured and draw it."""
    params = section(values, "plot", PlotParams)
    tokenizer = section(values, "model", TokenizerParams)
    limit = section(values, "train", LimitParams)
    plot_gain(params.dpi)
    plot_loss(params.dpi)
    plot_rouge(params.dpi)
    plot_composition(params.dpi)
    plot_lengths(tokenizer.reference, limit.max_length, params)
    figures = (GAIN_FIGURE, LOSS_FIGURE, ROUGE_FIGURE, COMPOSITION_FIGURE, LENGTHS_FIGURE)
    print(f"plots  {', '.join(figures)}")


def plot_gain(dpi: int) -> None:
    """Draw the adapter's differences from the base model with their intervals."""
    gain.forest(GAIN_FIGURE, read_gains(), dpi)


def plot_loss(dpi: int) -> None:
    """Draw the loss curves of training and validation."""
    train, validation = (
        [{key: float(value) for key, value in row.items()} for row in read_csv(path)]
        for path in (paths.TRAIN_LOSS, paths.VALIDATION_LOSS)
    )
    pipeline.loss_curves(LOSS_FIGURE, train, validation, dpi)


def plot_rouge(dpi: int) -> None:
    """Draw ROUGE of the base model and of the adapter, task by task."""
    base, tuned = read_json(paths.METRICS_BASELINE), read_json(paths.METRICS_EVALUATE)
    pipeline.rouge_bars(ROUGE_FIGURE, base, tuned, dpi)


def plot_composition(dpi: int) -> None:
    """Draw how many rows of each kind the mix has."""
    kinds = pc.value_counts(shards.read(paths.MIX, ["kind"])["kind"]).to_pylist()
    counts = {entry["values"]: entry["counts"] for entry in kinds}
    pipeline.composition(COMPOSITION_FIGURE, dict(sorted(counts.items())), dpi)


def plot_lengths(reference: str, limit: int, params: PlotParams) -> None:
    """Draw how long the mix's rows are in tokens, and write what is drawn."""
    lengths = token_lengths(reference, params.length_sample)
    write_csv(LENGTHS, pipeline.histogram(lengths))
    pipeline.token_lengths(LENGTHS_FIGURE, lengths, limit, params.dpi)


def token_lengths(reference: str, sample: int) -> list[int]:
    """Count the tokens of a seeded sample of the mix's rows, as the model's template renders them."""
    ids = shards.read(paths.MIX, ["id"])["id"]
    rows = np.sort(order("lengths", ids)[:sample])
    chosen = shard_rows.take(paths.MIX, rows, ["messages", "tools"])
    tokenizer = loading.load_tokenizer(loading.resolve(reference))
    texts = []
    for row in chosen.to_pylist():
        messages, tools = conversation(row)
        try:
            texts.append(render(tokenizer, messages, tools=tools))
        except TemplateRefusal:
            continue
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


if __name__ == "__main__":
    run(main)
