"""Training speed on a CPU in bfloat16 and in float32, as it is and held back to older instruction sets.

The train stage on the real SmolLM2-135M, 4 steps of 8 rows of at most 64 tokens. Processors without AMX and
without AVX512-BF16 are what the older instruction sets stand for: ONEDNN_MAX_CPU_ISA, MKL_ENABLE_INSTRUCTIONS
and ATEN_CPU_CAPABILITY keep PyTorch's kernels from using more. Needs a machine that does nothing else.

Run as `python -m benchmarks.cpu_dtype`, minutes on two cores, most of them for bfloat16 by AVX2; `--work DIR`
as for benchmarks.train_speed.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

from benchmarks.material import SMOLLM2, workspace
from benchmarks.train_speed import run, stage_params
from sft.fetch.cache import cache_dir
from stages.paths import PROVENANCE_TRAIN

STEPS, MAX_LENGTH = 4, 64
SETS = {
    "as it is": {},
    "AVX-512 without bfloat16": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "AVX2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    },
}


def main() -> None:
    """Train once for each instruction set and type, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks")
    folder = workspace(parser.parse_args().work / "workspace-cpu", SMOLLM2)
    print(f"{processor()}, {len(os.sched_getaffinity(0))} cores\n")
    print("| instructions | bfloat16, tokens/s | float32, tokens/s |\n|---|---|---|")
    for name, limits in SETS.items():
        speeds = [tokens_per_second(folder, dtype, limits) for dtype in ("bfloat16", "float32")]
        print(f"| {name} | " + " | ".join(f"{speed:,.0f}" for speed in speeds) + " |", flush=True)


def tokens_per_second(folder: Path, dtype: str, limits: dict[str, str]) -> float:
    """Train in a process held back by `limits`; return the speed of all steps, validation left out."""
    params = stage_params(SMOLLM2, "trl", False, 8, True, STEPS)
    params["model"]["dtype"] = dtype
    params["train"] |= {"max_length": MAX_LENGTH, "warmup_steps": 0, "validation_rows": 1}
    (folder / "params.yaml").write_text(json.dumps(params))
    run(["-m", "stages.train"], folder, limits)
    return json.loads((folder / PROVENANCE_TRAIN).read_text())["tokens_per_second"]


def processor() -> str:
    """Return the processor's name as lscpu has it."""
    lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model name")), "CPU")


if __name__ == "__main__":
    main()
