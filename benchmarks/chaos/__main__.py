"""Kill real runs of the pipeline at random moments, run them again, and compare what comes out.

The default's model and sources at a small size (`BUDGET`), in clones of this repository's last commit below
`--work`, one run at a time. First a run that nobody disturbs. Then chains, each in a clone of its own with an
empty cache: a command is killed, run again, killed again, at last left alone, and its outputs are compared
with those of the first run, byte by byte. What is killed when is chosen by `--seed`.

Run as `python -m benchmarks.chaos --work FOLDER --kills 25 --seed 0`: some 25 minutes on two CPU cores. It
exits with 1 where an output is lost or stale, where a user would have to do more than to run the command
again (and `make rescue` after a killed `dvc exp run`, or where Git's files are locked), where a stage goes on
without its DVC, where training does more twice than what lies between two checkpoints, or where a stage was
never hit.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.chaos import plan, verdict
from benchmarks.chaos.chain import ChainRun, Report
from benchmarks.chaos.outcome import Outcome, outcome
from benchmarks.chaos.processes import Run
from benchmarks.chaos.repository import Repository, set_params
from sft.core.params import load
from stages.cli import PARAMS

ROOT = Path(__file__).resolve().parents[2]
BUDGET: dict[str, Any] = {
    "data.size": "10k",
    "data.extra": [],
    "train.budget": "24 steps",
    "train.max_length": 256,
    "train.warmup_steps": 2,
    "train.validation_rows": 16,
    "train.validation_every": 10,
    "evaluate.examples": 6,
    "evaluate.likelihood_examples": 12,
    "evaluate.runs": 2,
    "evaluate.batch_size": 4,
    "tasks.recipe.max_new_tokens": 48,
    **{f"tasks.{task}.max_new_tokens": 24 for task in ("definition", "dialogue", "question")},
    "plot.length_sample": 500,
}
WANTED: dict[str, Any] = {"train.seed": 7}
INTERVAL = 5.0  # seconds between two checkpoints


def main() -> None:
    """Run the chains and print the table and the verdict."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the clones: made anew")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write all that was seen to this file")
    options = parser.parse_args()
    work = options.work.resolve()
    if work.exists():
        parser.error(f"{work} exists. Remove it, or name another folder.")
    work.mkdir(parents=True)
    begun = time.monotonic()
    prepare(work / "origin")
    expected, seconds = undisturbed(repository(work, "undisturbed"))
    print(f"undisturbed: {sum(seconds.values()):.0f} s, {_in_words(seconds)}", flush=True)
    reports: list[Report] = []
    for number, chain in enumerate(plan.chains(seconds, options.kills, options.seed)):
        missing = options.kills - sum(len(report.kills) for report in reports)
        if missing <= 0:
            break
        if number >= len(plan.RUNS):  # a run before was over sooner than it was to be killed
            chain = replace(chain, moments=chain.moments[:missing])
        clone = repository(work, f"chain-{number}")
        wanted, other = params_of(chain, clone)
        rng = random.Random(f"{options.seed} {number}")
        report = ChainRun(number, chain, clone, wanted, other, list(seconds), INTERVAL, rng).until_done(
            expected
        )
        reports.append(report)
        (work / f"chain-{number}.log").write_text(report.output, encoding="utf-8")
        print("\n".join(verdict.of_chain(report)), flush=True)
        if not verdict.faults([report]):
            shutil.rmtree(clone.folder)
    table, faults = verdict.table(reports), verdict.faults(reports, list(seconds))
    minutes = (time.monotonic() - begun) / 60
    print("\n".join(["", *table, "", *(faults or [verdict.PASSED]), f"{minutes:.1f} minutes"]))
    if options.json:
        seen = [{key: of for key, of in asdict(report).items() if key != "output"} for report in reports]
        written = {"seed": options.seed, "minutes": round(minutes, 1), "undisturbed": seconds, "chains": seen}
        options.json.write_text(json.dumps(written | {"faults": faults}, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if faults else 0)


def prepare(folder: Path) -> None:
    """Clone this repository's last commit and commit the small budget in it.

    dvc.lock and the results in Git stay those of other params, as where a user has just changed some.
    """
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    set_params(folder / PARAMS, BUDGET)
    commit = ["-c", "user.name=chaos", "-c", "user.email=chaos@example.org", "commit", "--quiet", "--all"]
    subprocess.run(["git", *commit, "--message", "A small budget"], cwd=folder, check=True)


def repository(work: Path, name: str) -> Repository:
    """Clone the prepared repository; the clone shares no cache of DVC's with another."""
    folder = work / name
    subprocess.run(["git", "clone", "--quiet", str(work / "origin"), str(folder)], check=True)
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **{f"GIT_{who}_NAME": "chaos" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "chaos@example.org" for who in ("AUTHOR", "COMMITTER")},
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(work / f"{name}-site"),
        "SFT_CHECKPOINT_SECONDS": str(INTERVAL),
        "COLUMNS": "200",
    }
    return Repository(folder, env, f"{work}-{name}")


def undisturbed(clone: Repository) -> tuple[Outcome, dict[str, float]]:
    """Run the pipeline once; return what came out and the seconds of each stage, in order."""
    run: Run = clone.start("repro", WANTED)
    run.process.wait()
    if not run.succeeded:
        sys.exit(f"error: the pipeline does not run even where nobody disturbs it:\n{run.text}")
    begun = {name: run.time_of(offset) for name, offset in run.begun().items()}
    ends = [*list(begun.values())[1:], time.monotonic()]
    seconds = {name: round(end - since, 1) for (name, since), end in zip(begun.items(), ends, strict=True)}
    return outcome(clone.folder), seconds


def params_of(chain: plan.Chain, clone: Repository) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the params that a chain's run is to end with, and those that it begins with.

    What they differ by is in both: after a killed `dvc exp run` the workspace has the experiment's params.
    """
    if chain.changes_in is None:
        return WANTED, WANTED
    name, value = plan.OTHER[chain.changes_in]
    now: Any = load(clone.folder / PARAMS)
    for part in name.split("."):
        now = now[part]
    return WANTED | {name: now}, WANTED | {name: value}


def _in_words(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {of:.0f} s" for name, of in seconds.items())


if __name__ == "__main__":
    main()
