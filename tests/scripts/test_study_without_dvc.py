"""A study's cells without DVC: finished ones are kept, an interrupted one goes on, and they compare."""

import os
import shutil
import signal
import subprocess

import pytest
from filelock import FileLock

from sft.core.errors import UserError
from sft.core.params import load
from sft.study.plan import applied, plan, regime
from tests.imports import ROOT
from tests.pipeline_repo import Repo, wait_for

VALUES = load(ROOT / "params.yaml")
CELLS = ("python", "-m", "scripts.study_without_dvc", "study", "--sizes", "100", "0.12k", "--replicates", "1")


def test_the_plan():
    regimes = [{}, regime(VALUES, ["train.budget=1 epoch", "train.batch_size=128"])]
    cells = plan(VALUES, ["100k", "300k"], [3, 1], regimes)
    assert [cell.name for cell in cells] == [
        *("100k-0", "300k-0", "1-epoch-batch_size-128-100k-0", "1-epoch-batch_size-128-300k-0"),
        *("100k-1", "300k-1", "100k-2", "300k-2"),
    ]
    seeds = {name: VALUES[name]["seed"] + 2 for name in ("data", "train")}
    assert cells[-1].changes == {
        "data.size": "300k",
        "data.seed": seeds["data"],
        "train.seed": seeds["train"],
    }
    made = applied(VALUES, cells[3].changes)
    assert (made["data"]["size"], made["train"]["budget"], made["train"]["batch_size"]) == (
        "300k",
        "1 epoch",
        128,
    )
    assert made["evaluate"] == VALUES["evaluate"] and VALUES["train"]["budget"] == "60 steps"
    assert len(plan(VALUES, ["100k"], [2], regimes)) == 4


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["train.bugdet=3 steps"], "train.bugdet: params.yaml has no such param"),
        (["train=3"], "train: params.yaml has no such param"),
        (["train.budget"], "is not PARAM=VALUE"),
        (["evaluate.runs=2"], "all cells of a study share evaluate.runs"),
        (["tasks.recipe.holdout=0.2"], "all cells of a study share tasks.recipe.holdout"),
        (["data.seed=2"], "the study itself varies data.seed"),
        (["train.budget=[1"], "is no value"),
    ],
)
def test_what_is_no_regime(texts, message):
    with pytest.raises(UserError, match=message):
        regime(VALUES, texts)


@pytest.mark.parametrize(
    ("sizes", "replicates", "message"),
    [
        (["100k"], [1, 2], "2 numbers of replicates to 1 regimes"),
        (["100k"], [0], "at least 1"),
        (["many"], [1], "'many' is not a positive whole number"),
        (["100k", "100k"], [1], "100k-0 and 100k-0 are the same training"),
        (["100k", "1e5"], [1], "1e5-0 and 100k-0 are the same training"),
    ],
)
def test_what_is_no_plan(sizes, replicates, message):
    with pytest.raises(UserError, match=message):
        plan(VALUES, sizes, replicates, [{}])


def test_a_regime_that_changes_nothing_is_no_regime():
    with pytest.raises(UserError, match="60-steps-100k-0 and 100k-0 are the same training"):
        plan(VALUES, ["100k"], [1], [{}, regime(VALUES, ["train.budget=60 steps"])])


def test_cells(repo: Repo) -> None:
    study = repo.path / "study"
    small, large = study / "100-0", study / "0.12k-0"
    # Stopped by a fault half-way: the second cell asks for more rows than there are.
    result = repo.run(*CELLS[:6], "9M", "--replicates", "1", ok=False)
    assert (
        result.returncode == 1 and "9M-0: stages.mix failed: error: params.yaml: data.size" in result.stderr
    )
    before = (small / "metrics" / "evaluate.json").stat().st_mtime_ns
    printed = repo.run(*CELLS, "--jobs", "2").stdout
    assert "100-0: finished\n" in printed and "0.12k-0 ..." in printed
    assert (small / "metrics" / "evaluate.json").stat().st_mtime_ns == before
    assert (large / "models" / "adapter").is_dir() and not (large / "data" / "mix.parquet").exists()
    assert "rows seen" in (large / "log.txt").read_text()
    # The first cell is the repository's own run.
    assert (small / "data/answers/evaluate.jsonl").read_bytes() == (
        repo.path / "data/answers/evaluate.jsonl"
    ).read_bytes()
    assert repo.run(*CELLS).stdout == "100-0: finished\n0.12k-0: finished\n"
    text = repo.run("python", "-m", "scripts.compare", "study/100-0", "study/0.12k-0").stdout
    assert "| data.size 100 | study/100-0 | " in text and "| data.size 0.12k | study/0.12k-0 | " in text

    with (repo.path / "sft" / "plotting" / "pipeline.py").open("a") as file:
        file.write("# A remark.\n")
    printed = repo.run(*CELLS).stdout
    assert "100-0: finished, by other code or on other data than now\n" in printed
    with FileLock(small / ".lock"):
        held = repo.run(*CELLS, ok=False)
    assert held.returncode == 1 and "100-0: another process is running this cell." in held.stderr

    # Other params are another study: nothing of the old one is taken for theirs, and nothing is lost.
    repo.set_params({"train.learning_rate": 1e-3})
    fault = repo.run(*CELLS, ok=False)
    assert fault.returncode == 1 and "study-base: a cell of other params." in fault.stderr
    assert "0.0002" in (small / "params.yaml").read_text()
    fault = repo.run(*CELLS, "--regime", "train.bugdet=3 steps", ok=False)
    assert fault.stderr == "error: train.bugdet: params.yaml has no such param. Is it misspelt?\n"
    shutil.rmtree(repo.path / "data" / "holdout")
    assert repo.run(*CELLS, ok=False).stderr.startswith("error: data/holdout: no such folder.")


def test_ctrl_c_begins_no_more_cells(repo: Repo) -> None:
    log = repo.path / "study.log"
    command = [*CELLS[:5], "50", "60", "70", "80", "--replicates", "1", "--jobs", "2"]
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=repo.path,
            env=repo.env,
            stdout=file,
            stderr=file,
            start_new_session=True,
            # The tests may run in the background, where shells have processes ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        wait_for(log, " ...", process, after="60-0")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(60) == 1
    printed = log.read_text()
    assert "interrupted: start it again and it goes on from here" in printed
    assert printed.count(" ...\n") == 2 and "Traceback" not in printed and "finished in" not in printed
