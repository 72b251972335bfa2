"""A study's runs without DVC: finished ones are kept, an interrupted one goes on, and they compare."""

import os
import shutil
import signal
import subprocess
import threading

import pytest
from filelock import FileLock

from scripts import at_once, study_without_dvc
from sft.core.errors import UserError
from sft.study.results import Inputs
from tests.pipeline_repo import Repo, wait_for

HERE = ("study_without_dvc", "study", "--sizes", "100", "0.12k", "--replicates", "1")
RUNS = ("python", "-m", f"scripts.{HERE[0]}", *HERE[1:])


@pytest.mark.long
def test_runs(repo: Repo) -> None:
    study = repo.path / "study"
    small, large = study / "100-0", study / "0.12k-0"
    # Stopped by a fault half-way: the second run asks for more rows than there are.
    result = repo.run(*RUNS[:6], "9M", "--replicates", "1", ok=False)
    assert (
        result.returncode == 1 and "9M-0: stages.mix failed: error: params.yaml: data.size" in result.stderr
    )
    before = (small / "metrics" / "evaluate.json").stat().st_mtime_ns
    devices = "0,0" if shutil.which("nvidia-smi") else "5,7"
    printed = repo.run(*RUNS, "--devices", devices).stdout
    assert "100-0: finished\n" in printed and "0.12k-0 ..." in printed
    assert (small / "metrics" / "evaluate.json").stat().st_mtime_ns == before
    assert (large / "models" / "adapter").is_dir() and not (large / "data" / "mix").exists()
    log = (large / "log.txt").read_text()
    assert "rows seen" in log and log.count(f" of SFT_DEVICES={devices}\n") == 2  # trained and evaluated
    # The first run is the repository's own run.
    assert (small / "data/answers/evaluate.jsonl").read_bytes() == (
        repo.path / "data/answers/evaluate.jsonl"
    ).read_bytes()
    assert repo.script(*HERE).stdout == "100-0: finished\n0.12k-0: finished\n"
    text = repo.script("compare", "study/100-0", "study/0.12k-0").stdout
    assert "| data.size 100 | study/100-0 | " in text and "| data.size 0.12k | study/0.12k-0 | " in text

    with (repo.path / "sft" / "plotting" / "pipeline.py").open("a") as file:
        file.write("# A remark.\n")
    printed = repo.run(*RUNS).stdout
    assert "100-0: finished, by other code or on other data than now\n" in printed
    with FileLock(small / ".lock"):
        held = repo.run(*RUNS, ok=False)
    assert held.returncode == 1 and "100-0: another process is at work on this run." in held.stderr

    # Other params are another study: nothing of the old one is taken for theirs, and nothing is lost.
    params = (small / "params.yaml").read_text()
    repo.set_params({"train.learning_rate": 1e-3})
    fault = repo.script(*HERE, ok=False)
    assert fault.returncode == 1 and "study-base: a run of other params." in fault.stderr
    assert (small / "params.yaml").read_text() == params
    fault = repo.script(*HERE, "--condition", "train.bugdet=3 steps", ok=False)
    assert fault.stderr == "error: params.yaml: train.bugdet: no such param. Is it misspelt?\n"
    shutil.rmtree(repo.path / "data" / "holdout")
    assert repo.script(*HERE, ok=False).stderr.startswith("error: data/holdout: no such folder.")


def test_ctrl_c_begins_no_more_runs(repo: Repo) -> None:
    log = repo.path / "study.log"
    command = [*RUNS[:5], "50", "60", "70", "80", "--replicates", "1", "--jobs", "2"]
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


def test_an_interrupted_study_begins_no_further_stage(tmp_path, monkeypatch) -> None:
    """A run whose stage has ended when Ctrl-C comes, in another thread, does not go on to the next."""
    monkeypatch.setattr(study_without_dvc, "inputs", lambda: Inputs({}, {}))
    monkeypatch.setattr(at_once, "interrupted", threading.Event())
    commands = []

    def ended_and_interrupted(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command[-1])
        at_once.interrupted.set()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study_without_dvc.subprocess, "run", ended_and_interrupted)
    with pytest.raises(UserError, match="interrupted"):
        study_without_dvc.run_stages(tmp_path, {}, [("stages.mix",), ("stages.train",)])
    assert commands == ["stages.mix"]
