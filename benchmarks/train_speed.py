"""Training speed on one NVIDIA GPU: this pipeline's own stage, and what it is measured against.

Every row is a process of its own, one after another on one card, over the same 2,000 conversations (682
tokens on average, 2,048 at most), with the loss on all tokens. Tokens are those that are not padding;
steady state leaves the first steps out. Needs requirements.txt.

Run as `python -m benchmarks.train_speed llama` (Llama-3.2-3B's architecture, random weights) or
`... smollm2` (the real SmolLM2-135M); `--work DIR` keeps models, data and results in another folder than
the cache's.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.material import SMOLLM2, llama_3b, workspace
from sft.core.files import write_json
from sft.fetch.cache import cache_dir
from stages.paths import PROVENANCE_TRAIN

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = {"study": 3, "plain": 3}  # steps left out; the stages and the bare loop leave out 10

# Name, contestant or (engine, 4-bit, rows in an optimizer step, deterministic), steps.
LLAMA: list[tuple[str, Any, int]] = [
    ("the study's recipe: Unsloth 4-bit, 2 rows x 4, float16", "study", 10),
    ("the stage, trl, 16-bit, 24 rows", ("trl", False, 24, True), 28),
    ("the stage, trl, 16-bit, 24 rows; deterministic: false", ("trl", False, 24, False), 28),
    ("the stage, trl, 16-bit, 8 rows", ("trl", False, 8, True), 120),
    ("the stage, trl, 4-bit, 8 rows", ("trl", True, 8, True), 120),
    ("the stage, unsloth, 16-bit, 24 rows", ("unsloth", False, 24, True), 28),
    ("the stage, unsloth, 16-bit, 8 rows", ("unsloth", False, 8, True), 50),
    ("the stage, unsloth, 4-bit, 8 rows", ("unsloth", True, 8, True), 50),
    ("bare loop", "bare", 26),
    ("plain TRL + PEFT + bitsandbytes, 4-bit, 2 rows x 4", "plain", 10),
]
SMALL: list[tuple[str, Any, int]] = [
    ("the stage, trl, 16-bit, 128 rows", ("trl", False, 128, True), 30),
    ("the stage, unsloth, 16-bit, 128 rows", ("unsloth", False, 128, True), 30),
    ("bare loop", "bare-128", 30),
]


def main() -> None:
    """Run the rows that have no result yet, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=["llama", "smollm2"])
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks")
    arguments = parser.parse_args()
    work: Path = arguments.work
    reference = str(llama_3b(work / "llama")) if arguments.model == "llama" else SMOLLM2
    folder = work / f"workspace-{arguments.model}"
    results = work / f"train-{arguments.model}.json"
    measured: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    for name, what, steps in LLAMA if arguments.model == "llama" else SMALL:
        if any(done == name or done.startswith(f"{name}, ") for done in measured):
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        workspace(folder, reference)
        start = time.perf_counter()
        try:
            if isinstance(what, tuple):
                engine, four_bit, batch, same_order = what
                rows = stage(folder, reference, engine, four_bit, batch, same_order, steps)
            else:
                rows = contestant(what, folder, reference, steps)
        except subprocess.CalledProcessError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        for kind, figures in rows.items():
            figures["process_seconds"] = round(time.perf_counter() - start, 1)
            measured[f"{name}{kind}"] = figures
        write_json(results, measured)
    table(measured)


def run(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a process in `folder` and return what it printed; on failure show what it said, and raise."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        print(result.stdout[-2000:], result.stderr[-4000:], file=sys.stderr, flush=True)
        raise subprocess.CalledProcessError(result.returncode, command)
    return result.stdout


def stage_params(
    reference: str, engine: str, four_bit: bool, rows: int, same_order: bool, steps: int, devices: int = 1
) -> dict[str, Any]:
    """Make params.yaml for the train stage: `steps` steps of `rows` rows, else the study's values."""
    return {
        "model": {"reference": reference, "dtype": "bfloat16", "load_in_4bit": four_bit},
        "data": {"weights": "proportional"},
        "train": {
            "engine": engine,
            "seed": 42,
            "devices": devices,
            "budget": f"{steps} steps",
            "batch_size": rows,
            "micro_batch": "auto",
            "max_length": 2048,
            "too_long": "truncate",
            "loss_on": "all",
            "reasoning": "train",
            "reasoning_fallback": "text",
            "max_refused": 0.01,
            "learning_rate": 2e-4,
            "lr_scheduler": "linear",
            "warmup_steps": 5,
            "weight_decay": 0.01,
            "optimizer": "adamw_torch",
            "gradient_checkpointing": "auto",
            "deterministic": same_order,
            "validation_rows": 8,
            "validation_every": steps,
            "lora": {
                "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
                "r": 16,
                "alpha": 16,
                "dropout": 0.0,
            },
        },
    }


def stage(
    folder: Path,
    reference: str,
    engine: str,
    four_bit: bool,
    rows: int,
    same_order: bool,
    steps: int,
    devices: int = 1,
) -> dict[str, dict[str, Any]]:
    """Run the train stage itself and take its own figures."""
    params = stage_params(reference, engine, four_bit, rows, same_order, steps, devices)
    (folder / "params.yaml").write_text(json.dumps(params))  # JSON is YAML
    run(["-m", "stages.train"], folder)
    record = json.loads((folder / PROVENANCE_TRAIN).read_text())
    tokens = record["tokens_seen"] / steps
    return {
        "": {
            "tokens_per_second": record["steady"]["tokens_per_second"],
            "seconds_a_step": round(tokens / record["steady"]["tokens_per_second"], 3),
            "model_flop_utilisation": record["steady"]["model_flop_utilisation"],
            "peak_memory_gib": record["peak_memory_gib"],
            "micro_batch": record["micro_batch"],
            "seconds": record["seconds"],
            "device": record["device"],
            "versions": record["versions"],
        }
    }


def contestant(name: str, folder: Path, reference: str, steps: int) -> dict[str, dict[str, Any]]:
    """Run one of benchmarks.contestants, which may measure several rows of the table."""
    printed = run(["-m", "benchmarks.contestants", name, reference, str(folder), str(steps)], folder)
    rows = {}
    for kind, figures in json.loads(printed.splitlines()[-1]).items():
        warm_up = WARM_UP.get(name, 10)
        tokens, seconds = sum(figures["tokens"][warm_up:]), sum(figures["seconds"][warm_up:])
        rows[kind] = {
            "tokens_per_second": round(tokens / seconds, 1),
            "seconds_a_step": round(seconds / len(figures["seconds"][warm_up:]), 3),
            "peak_memory_gib": figures["peak_memory_gib"],
            "device": figures["device"],
            "versions": figures["versions"],
        }
    return rows


def table(measured: dict[str, Any]) -> None:
    """Print the results as a Markdown table; raise where they are of several cards or packages."""
    kinds = {json.dumps([row["device"], row["versions"]], sort_keys=True) for row in measured.values()}
    if len(kinds) > 1:
        sys.exit("the results kept are of several cards or packages: delete them and run again")
    print("| recipe | s/step | tokens/s | FLOP utilisation | peak GiB | whole process, s |")
    print("|---|---|---|---|---|---|")
    for name, row in measured.items():
        used = row.get("model_flop_utilisation")
        print(
            f"| {name} | {row['seconds_a_step']:.3f} | {row['tokens_per_second']:,.0f} "
            f"| {f'{used:.0%}' if used else ''} | {row['peak_memory_gib']:.1f} "
            f"| {row['process_seconds']:.0f} |"
        )


if __name__ == "__main__":
    main()
