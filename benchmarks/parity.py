"""Do the engines, and the cuts of a step, compute the same? Losses of 40 steps on the real SmolLM2-135M.

The largest relative difference between two runs' losses over the steps: in float32 between cuts of 8 rows
into 1, 2, 4 and 8 micro-batches; in bfloat16 between two cuts of one engine, and between the engines.

Run as `python -m benchmarks.parity`, on an NVIDIA GPU; `--work DIR` as for benchmarks.train_speed.
"""

import argparse
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.material import SMOLLM2, workspace
from benchmarks.train_speed import run, stage_params
from sft.fetch.cache import cache_dir
from sft.modeling.loading import resolve
from sft.training.engines import ENGINES

STEPS = 40
# Engine, type, rows in a micro-batch.
RUNS = {f"trl float32 {cut}": ("trl", "float32", 8 // cut) for cut in (1, 2, 4, 8)}
RUNS |= {f"{engine} bfloat16 {cut}": (engine, "bfloat16", 8 // cut) for engine in ENGINES for cut in (1, 8)}


def main() -> None:
    """Train all runs, several at a time, and print the differences."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks")
    work: Path = parser.parse_args().work
    resolve(SMOLLM2)
    data = workspace(work / "workspace-parity", SMOLLM2)

    def train(name: str) -> list[float]:
        engine, dtype, micro_batch = RUNS[name]
        folder = work / "parity" / name.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        for part in ("metrics", "plots", "models"):
            (folder / part).mkdir(parents=True)
        (folder / "data").symlink_to((data / "data").resolve())
        params = stage_params(SMOLLM2, engine, False, 8, True, STEPS)
        params["model"]["dtype"] = dtype
        params["train"]["micro_batch"] = micro_batch
        (folder / "params.yaml").write_text(json.dumps(params))
        run(["-m", "stages.train"], folder)
        lines = (folder / "plots" / "train_loss.csv").read_text().splitlines()[1:]
        return [float(line.split(",")[1]) for line in lines]

    with ThreadPoolExecutor(len(RUNS)) as pool:
        losses = dict(zip(RUNS, pool.map(train, RUNS), strict=True))

    def differ(one: str, other: str) -> float:
        return max(abs(a - b) / abs(a) for a, b in zip(losses[one], losses[other], strict=True))

    print("| compared over 40 steps | largest relative difference of the loss |\n|---|---|")
    for cut in (2, 4, 8):
        cuts = differ("trl float32 1", f"trl float32 {cut}")
        print(f"| trl, float32: 1 and {cut} micro-batches | {cuts:.1e} |")
    for engine in ENGINES:
        cuts = differ(f"{engine} bfloat16 1", f"{engine} bfloat16 8")
        print(f"| {engine}, bfloat16: 1 and 8 micro-batches | {cuts:.1e} |")
    for cut in (1, 8):
        engines = differ(f"trl bfloat16 {cut}", f"unsloth bfloat16 {cut}")
        print(f"| trl and unsloth, bfloat16, {cut} micro-batches | {engines:.1e} |")


if __name__ == "__main__":
    main()
