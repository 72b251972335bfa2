"""Training and evaluation on one device and on several of the same host, by the stages themselves.

Training's steps have as many rows on each device as one device has alone, and one device also makes the large
steps, for the losses: those of the same step are to be equal but for rounding. Evaluation answers the same
examples. All one after another, in one call, on conversations as for benchmarks.train_speed.

Run as `python -m benchmarks.devices_speed llama --devices 2` (Llama-3.2-3B's architecture, random weights; or
`smollm2`) where there are as many GPUs. `small`, two layers, is for trying it on a processor: its seconds say
nothing. `--work DIR` as for benchmarks.train_speed.
"""

import argparse
import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import generate_speed, train_speed
from benchmarks.material import SMOLLM2, llama_3b, workspace
from sft.core.files import write_json
from sft.fetch.cache import cache_dir
from stages.paths import BASELINE_ANSWERS, TRAIN_LOSS

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
    "llama": Size((24, 8), 40, generate_speed.EXAMPLES, generate_speed.NEW_TOKENS),
    "smollm2": Size((128,), 40, generate_speed.EXAMPLES, generate_speed.NEW_TOKENS),
    "small": Size((1,), 12, 4, 4),
}


def main() -> None:
    """Measure, keep the results as JSON, and print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=list(SIZES))
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks")
    arguments = parser.parse_args()
    work, size, devices = arguments.work, SIZES[arguments.model], arguments.devices
    if arguments.model == "smollm2":
        reference = SMOLLM2
    else:
        reference = str(llama_3b(work / arguments.model, **(SMALL if arguments.model == "small" else {})))
    results = {
        "devices": devices,
        "training": [
            training(work, arguments.model, reference, rows, size.steps, devices) for rows in size.rows
        ],
        "evaluation": evaluation(work, arguments.model, reference, size, devices),
    }
    write_json(work / f"devices-{arguments.model}-{devices}.json", results)
    print("\n".join(table(results)))


def training(work: Path, model: str, reference: str, rows: int, steps: int, devices: int) -> dict[str, Any]:
    """Train alone with a device's rows, alone with all of them, and on all devices."""
    folder = workspace(work / f"workspace-{model}", reference)
    figures, losses = {}, {}
    for name, count, batch in (
        ("one device", 1, rows),
        ("one device, the same steps", 1, rows * devices),
        ("all devices", devices, rows * devices),
    ):
        print(f"training: {name}, {batch} rows ...", file=sys.stderr, flush=True)
        figures[name] = train_speed.stage(folder, reference, "trl", False, batch, True, steps, count)[""]
        with (folder / TRAIN_LOSS).open(encoding="utf-8") as file:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(file)]
    of_all = losses["all devices"]
    return {
        "rows_a_device": rows,
        "figures": figures,
        "speed_up": ratio(figures, "tokens_per_second"),
        "largest_difference_of_a_loss": max(
            abs(one - other) for one, other in zip(losses["one device, the same steps"], of_all, strict=True)
        ),
    }


def evaluation(work: Path, model: str, reference: str, size: Size, devices: int) -> dict[str, Any]:
    """Answer the same examples on one device and on all of them."""
    folder = work / f"workspace-generate-{model}"
    generate_speed.prepare(folder, reference)
    figures, answers = {}, {}
    for name, count in (("one device", 1), ("all devices", devices)):
        print(f"evaluation: {name} ...", file=sys.stderr, flush=True)
        figures[name] = generate_speed.stage(folder, reference, "auto", count, size.examples, size.new_tokens)
        lines = (folder / BASELINE_ANSWERS).read_text(encoding="utf-8").rstrip("\n").split("\n")
        records = [json.loads(line) for line in lines]
        answers[name] = [record["prediction"] for record in records if record["run"] is not None]
    same = sum(one == other for one, other in zip(*answers.values(), strict=True))
    return {
        "figures": figures,
        "speed_up": ratio(figures, "tokens_per_second"),
        "same_answers": same / len(answers["one device"]),
    }


def ratio(figures: dict[str, dict[str, Any]], name: str) -> float:
    """Return how many times as much all devices do as one does."""
    return round(figures["all devices"][name] / figures["one device"][name], 3)


def table(results: dict[str, Any]) -> list[str]:
    """Return the results as Markdown tables."""
    devices = results["devices"]
    lines = [
        f"| training | 1 device, tokens/s | {devices} devices, tokens/s | times | losses differ by at most |",
        "|---|---|---|---|---|",
    ]
    for row in results["training"]:
        one, all_devices = (row["figures"][name] for name in ("one device", "all devices"))
        lines.append(
            f"| {row['rows_a_device']} rows a device | {one['tokens_per_second']:,.0f} "
            f"| {all_devices['tokens_per_second']:,.0f} | {row['speed_up']:.2f} "
            f"| {row['largest_difference_of_a_loss']:.1e} |"
        )
    of_answers = results["evaluation"]
    one, all_devices = (of_answers["figures"][name] for name in ("one device", "all devices"))
    return [
        *lines,
        "",
        f"| evaluation | 1 device, tokens/s | {devices} devices, tokens/s | times | the same answers |",
        "|---|---|---|---|---|",
        f"| | {one['tokens_per_second']:,.0f} | {all_devices['tokens_per_second']:,.0f} "
        f"| {of_answers['speed_up']:.2f} | {of_answers['same_answers']:.1%} |",
    ]


if __name__ == "__main__":
    main()
