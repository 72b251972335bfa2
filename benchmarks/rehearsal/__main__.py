"""The study's preset from end to end without the hub: in full where there is a GPU, elsewhere with --small.

A stand-in for the hub on the loopback serves what the preset names: Llama-3.2-3B's architecture with random
weights in bfloat16, Llama 3's tokenizer and chat template; data sets like FineTome-100k and The-Tome. In a
fresh clone of the last commit, presets/llama-3.2-3b.yaml is applied as a user would, unchanged: only
HF_ENDPOINT is another. Then `dvc repro`, `dvc exp run` with 300,000 rows, and `python -m scripts.export`.

--small takes a tiny model of the same architecture, a hundredth of the rows and another engine, for Unsloth
and 4 bits need a GPU. The rest of the path is the same.

Run as `python -m benchmarks.rehearsal --work FOLDER`, with 22 GB of disk below the folder. It leaves
log.txt, rehearsal.json and table.md in FOLDER/out, and exits with 1 where a command fails or something else
comes out than has to. No network is needed but for the packages that hold Llama's tokenizer and the tasks'
examples, where they are not in the cache yet. Linux only.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from benchmarks.chaos.repository import set_params
from benchmarks.rehearsal import clone, served
from benchmarks.rehearsal.record import Record
from benchmarks.rehearsal.running import CommandError, Runner, environment
from benchmarks.rehearsal.scale import FULL, SMALL, Scale
from benchmarks.rehearsal.verdict import faults
from sft.core.files import write_json, write_text
from sft.core.params import load
from stages.cli import PARAMS
from tests.hub_server import HubServer

PRESET = "llama-3.2-3b"
FIRST = "the preset"
DVC = [sys.executable, "-m", "dvc"]


def main(given: list[str] | None = None) -> None:
    """Rehearse, print the table, and exit with 1 where something went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="a folder, made anew, for all of it")
    parser.add_argument("--small", action="store_true", help="what a machine without a GPU can do in minutes")
    options = parser.parse_args(given)
    work = options.work.resolve()
    scale = SMALL if options.small else FULL
    check_machine(work, scale)
    (work / "out").mkdir(parents=True)
    record = Record(small=options.small)
    with (work / "out" / "log.txt").open("w", encoding="utf-8") as log, HubServer(work / "hub") as hub:
        runner = Runner(work / "clone", environment(hub.environment(work / "client")), log, time.monotonic())
        try:
            prepare(runner, hub, scale, record)
            rehearse(runner, scale, record)
            record.faults += faults(runner.folder, record, scale)
            export(runner, record)
        except CommandError as error:  # what ran before it is still worth its table
            record.faults.append(str(error))
        write_json(work / "out" / "rehearsal.json", record.as_json())
        lines = record.markdown()
        write_text(work / "out" / "table.md", "\n".join(lines) + "\n")
        for line in lines:
            runner.say(line)
    if record.faults:
        sys.exit("\n".join(f"error: {fault}" for fault in record.faults))


def check_machine(work: Path, scale: Scale) -> None:
    """Exit where the folder exists, the disk is too small, or there is no GPU for what needs one."""
    if work.exists():
        sys.exit(f"error: {work} exists. Remove it, or name another folder.")
    disk = next(parent for parent in work.parents if parent.exists())
    if (free := shutil.disk_usage(disk).free) < scale.disk:
        sys.exit(f"error: {disk}: {scale.disk / 1e9:.0f} GB needed, {free / 1e9:.0f} GB free.")
    if scale.gpu:
        import torch

        if not torch.cuda.is_available():
            sys.exit("error: the preset needs an NVIDIA GPU, and there is none here. Add --small.")


def prepare(runner: Runner, hub: HubServer, scale: Scale, record: Record) -> None:
    """Make the clone, put the preset into its params, and make what the hub is to serve of it."""
    clone.make(runner.folder)
    runner.run("preset", [sys.executable, "-m", "scripts.preset", PRESET])
    runner.say("making the model and the data that the hub serves ...")
    record.made = served.make(hub, load(runner.folder / PARAMS), scale)
    if scale.params:
        runner.say(f"changed after the preset: {scale.params}")
        set_params(runner.folder / PARAMS, scale.params)


def rehearse(runner: Runner, scale: Scale, record: Record) -> None:
    """Run what a user of the preset runs; what comes of each command is kept in `record`."""
    runner.run("dvc repro", [*DVC, "repro"], record.run(FIRST))
    record.results(runner.folder, FIRST)
    clone.commit(runner.folder, "The preset has run")
    larger = f"data.size={scale.size}"
    runner.run("dvc exp run", [*DVC, "exp", "run", "--set-param", larger], record.run(larger))
    record.results(runner.folder, larger)
    runner.run("dvc metrics diff", [*DVC, "metrics", "diff"])
    runner.run("dvc status", [*DVC, "status", "--quiet"])  # fails where anything is out of date


def export(runner: Runner, record: Record) -> None:
    """Export the adapter of the larger mix."""
    runner.run("export", [sys.executable, "-m", "scripts.export"], record.run("export"))


if __name__ == "__main__":
    main()
