"""Generation speed on one NVIDIA GPU: the evaluate stage itself, and the study's way.

Prompts of some 200 tokens, three answers of 256 tokens to each, sampled: random weights do not end an
answer. The stage answers a first task of few tokens too, which takes what is done once (compiling).
Needs requirements.txt.

Run as `python -m benchmarks.generate_speed`; `--work DIR` as for benchmarks.train_speed.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.material import conversations, llama_3b
from benchmarks.train_speed import run
from sft.core.files import write_json
from sft.core.row_schema import MESSAGES
from sft.fetch.cache import cache_dir
from sft.modeling.loading import load_tokenizer, resolve
from stages.paths import PROVENANCE_BASELINE

SIZES: list[int | str] = ["auto", 170, 340]  # prompts at a time, three answers each
EXAMPLES = 340
NEW_TOKENS = 256


def main() -> None:
    """Run every batch size that has no result yet, then the study's way, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks")
    parser.add_argument("--study", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    reference = str(llama_3b(arguments.work / "llama"))
    folder = arguments.work / "workspace-generate"
    prepare(folder, reference)
    if arguments.study:
        print(json.dumps(study(reference, folder)))
        return
    file = arguments.work / "generate.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    ways: dict[str, Any] = {f"the stage, 16-bit, batch_size {size}": size for size in SIZES}
    for name, size in ({"the study's way: Unsloth 4-bit, batch 32": None} | ways).items():
        if name in results:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            if size is None:
                command = ["-m", "benchmarks.generate_speed", "--study", "--work", str(arguments.work)]
                results[name] = json.loads(run(command, folder).splitlines()[-1])
            else:
                results[name] = stage(folder, reference, size)
        except subprocess.CalledProcessError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        write_json(file, results)
    print("| way | tokens/s | generated in, s | FLOP utilisation | peak GiB |\n|---|---|---|---|---|")
    for name, row in results.items():
        used = row.get("model_flop_utilisation")
        print(
            f"| {name} | {row['tokens_per_second']:,.0f} | {row['seconds']:.1f} "
            f"| {f'{used:.0%}' if used else ''} | {row['peak_memory_gib']:.1f} |"
        )


def prepare(folder: Path, reference: str, examples: int = EXAMPLES) -> None:
    """Write the hold-out that the stage reads: the same prompts for a short task and for a long one."""
    if (folder / "data").exists():
        return
    tokenizer = load_tokenizer(resolve(reference))
    rows = []
    for n, (question, answer) in enumerate(conversations(tokenizer, examples, seed=2)):
        text = " ".join((question["content"] + " " + answer["content"]).split()[:190])
        for task in ("question", "recipe"):
            prompt = [{"role": "user", "content": text}]
            rows.append(
                {"task": task, "item": f"{n}", "id": f"{n}", "prompt": prompt, "references": ["none at all"]}
            )
    (folder / "data" / "holdout").mkdir(parents=True)
    schema = pa.schema(
        [
            ("task", pa.string()),
            ("item", pa.string()),
            ("id", pa.string()),
            ("prompt", MESSAGES),
            ("references", pa.list_(pa.string())),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "data" / "holdout" / "evaluation.parquet")


def stage(
    folder: Path,
    reference: str,
    size: int | str,
    devices: int = 1,
    examples: int = EXAMPLES,
    new_tokens: int = NEW_TOKENS,
) -> dict[str, Any]:
    """Run the evaluate stage on the base model and take its figures for the long answers."""
    params = {
        "model": {"reference": reference, "dtype": "bfloat16", "load_in_4bit": False},
        "evaluate": {
            "examples": examples,
            "likelihood_examples": examples,
            "runs": 3,
            "seed": 42,
            "temperature": 0.7,
            "batch_size": size,
            "devices": devices,
        },
        "tasks": {
            task: {"source": "none", "holdout": 0, "max_new_tokens": tokens, "metrics": []}
            for task, tokens in (("question", 8), ("recipe", new_tokens))
        },
    }
    (folder / "params.yaml").write_text(json.dumps(params))
    run(["-m", "stages.evaluate", "base"], folder)
    account = json.loads((folder / PROVENANCE_BASELINE).read_text())
    of_task = account["tasks"]["recipe"]
    return {
        **{name: of_task[name] for name in ("tokens_per_second", "model_flop_utilisation")},
        "seconds": account["seconds"]["answer_recipe"],
        "whole_stage_tokens_per_second": account["tokens_per_second"],
        "peak_memory_gib": account["peak_memory_gib"],
        "phases": account["seconds"],
        "device": account["device"],
        "versions": account["versions"],
    }


def study(reference: str, folder: Path) -> dict[str, Any]:
    """Answer 64 prompts as the study's notebook does, 32 at a time."""
    import unsloth  # noqa: F401, I001
    import torch
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=reference,
        max_seq_length=2048,
        load_in_4bit=True,
        use_exact_model_name=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    FastLanguageModel.for_inference(model)
    rows = pq.read_table(folder / "data/holdout/evaluation.parquet")
    prompts = rows.filter(pa.compute.equal(rows["task"], "recipe"))["prompt"].to_pylist()[:64]
    tokenizer.padding_side = "left"
    timings = []
    for start in (0, 0, 32):  # the first to warm up
        inputs = tokenizer.apply_chat_template(
            prompts[start : start + 32],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        ).to("cuda")
        torch.cuda.synchronize()
        begun = time.perf_counter()
        output = model.generate(
            **inputs, max_new_tokens=128, min_new_tokens=128, do_sample=True, temperature=0.7
        )
        torch.cuda.synchronize()
        new = output.shape[0] * (output.shape[1] - inputs["input_ids"].shape[1])
        timings.append((new, time.perf_counter() - begun))
    tokens, seconds = (sum(of) for of in zip(*timings[1:], strict=True))
    return {
        "tokens_per_second": round(tokens / seconds, 1),
        "seconds": seconds,
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


if __name__ == "__main__":
    main()
