"""Training and evaluation on one device and on several of the same host, by the stages themselves.

Training's steps have as many rows on each device as one device has alone, and one device also makes the large
steps, for the losses: those of the same step are to be equal but for rounding. Evaluation answers the same
examples. Runs follow one another, on conversations as for benchmarks.train_speed; results are kept as they
come.

Run as `python -m benchmarks.devices_speed llama --devices 2` (Llama-3.2-3B's architecture, random weights; or
`smollm2`) where there are as many GPUs. `small`, two layers, is for trying it on a processor: its seconds say
nothing. `--work DIR` as for benchmarks.train_speed.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from benchmarks import generate_speed, train_speed
from benchmarks.material import SMOLLM2, llama_3b, workspace
from sft.core.files import write_json
from sft.fetch.cache import cache_dir
from stages.paths import BASELINE_ANSWERS, TRAIN_LOSS

ONE, ALL, SAME = "one device", "all devices", "one device, steps of all"
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"num_key_value_heads": 2, "head_dim": 32}


@dataclass(frozen=True)
class Size:
    """A device's rows of a step, for each row of the table; steps; examples; tokens of an answer."""

    rows: tuple[int, ...]
    steps: int
    examples: int
    new_tokens: int


SIZES = {
    # 24 rows are 16,368 tokens on average; 8 are the study's step.
    "llama": Size((24, 8), 50, 4 * generate_speed.EXAMPLES, generate_speed.NEW_TOKENS),
    "smollm2": Size((128,), 50, 4 * generate_speed.EXAMPLES, generate_speed.NEW_TOKENS),
    "small": Size((1,), 12, 4, 4),
}


def main() -> None:
    """Make the runs that have no result yet, keep the results as JSON, and print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=list(SIZES))
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks")
    arguments = parser.parse_args()
    results = arguments.work / f"devices-{arguments.model}-{arguments.devices}.json"
    measured: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    for name, run in runs(arguments.work, arguments.model, arguments.devices).items():
        if name not in measured:
            print(f"{name} ...", file=sys.stderr, flush=True)
            measured[name] = run()
            write_json(results, measured)
    print("\n".join(table(measured, arguments.model, arguments.devices)))


def runs(work: Path, model: str, devices: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what makes each run, by name, in order; those for the losses alone come last."""
    size = SIZES[model]
    if model == "smollm2":
        reference = SMOLLM2
    else:
        reference = str(llama_3b(work / model, **(SMALL if model == "small" else {})))
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for rows in size.rows:
        step = rows * devices
        found[training_name(rows, ONE)] = partial(training, work, model, reference, rows, size.steps, 1)
        found[training_name(rows, ALL)] = partial(training, work, model, reference, step, size.steps, devices)
    found[evaluation_name(ONE)] = partial(evaluation, work, model, reference, size, 1)
    found[evaluation_name(ALL)] = partial(evaluation, work, model, reference, size, devices)
    for rows in size.rows:
        step = rows * devices
        found[training_name(rows, SAME)] = partial(training, work, model, reference, step, size.steps, 1)
    return found


def training_name(rows: int, which: str) -> str:
    """Return the name of a run of training, with these rows a device."""
    return f"training, {rows} rows a device: {which}"


def evaluation_name(which: str) -> str:
    """Return the name of a run of evaluation."""
    return f"evaluation: {which}"


def training(work: Path, model: str, reference: str, rows: int, steps: int, devices: int) -> dict[str, Any]:
    """Train by steps of `rows` rows; return the stage's figures and the losses."""
    folder = workspace(work / f"workspace-{model}", reference)
    figures = train_speed.stage(folder, reference, "trl", False, rows, True, steps, devices)[""]
    with (folder / TRAIN_LOSS).open(encoding="utf-8") as file:
        return {**figures, "losses": [float(row["loss"]) for row in csv.DictReader(file)]}


def evaluation(work: Path, model: str, reference: str, size: Size, devices: int) -> dict[str, Any]:
    """Answer the examples; return the stage's figures and a hash of each answer."""
    folder = work / f"workspace-generate-{model}-{size.examples}"
    generate_speed.prepare(folder, reference, size.examples)
    figures = generate_speed.stage(folder, reference, "auto", devices, size.examples, size.new_tokens)
    lines = (folder / BASELINE_ANSWERS).read_text(encoding="utf-8").rstrip("\n").split("\n")
    records = [json.loads(line) for line in lines]
    answers = [record["prediction"] for record in records if record["run"] is not None]
    return {**figures, "answers": [xxhash.xxh3_64_hexdigest(answer.encode()) for answer in answers]}


def table(measured: dict[str, Any], model: str, devices: int) -> list[str]:
    """Return the results as Markdown tables."""
    lines = [
        f"| training | 1 device, tokens/s | {devices} devices, tokens/s | times | losses differ by at most |",
        "|---|---|---|---|---|",
    ]
    for rows in SIZES[model].rows:
        one, of_all, same = (measured[training_name(rows, which)] for which in (ONE, ALL, SAME))
        apart = max(abs(a - b) for a, b in zip(same["losses"], of_all["losses"], strict=True))
        lines.append(
            f"| {rows} rows a device | {one['tokens_per_second']:,.0f} | {of_all['tokens_per_second']:,.0f} "
            f"| {of_all['tokens_per_second'] / one['tokens_per_second']:.2f} | {apart:.1e} |"
        )
    one, of_all = (measured[evaluation_name(which)] for which in (ONE, ALL))
    same_answers = sum(a == b for a, b in zip(one["answers"], of_all["answers"], strict=True))
    return [
        *lines,
        "",
        f"| evaluation | 1 device, tokens/s | {devices} devices, tokens/s | times | the same answers |",
        "|---|---|---|---|---|",
        f"| {SIZES[model].examples} prompts | {one['tokens_per_second']:,.0f} "
        f"| {of_all['tokens_per_second']:,.0f} "
        f"| {of_all['tokens_per_second'] / one['tokens_per_second']:.2f} "
        f"| {same_answers / len(one['answers']):.1%} |",
    ]


if __name__ == "__main__":
    main()
