"""A real `dvc repro` that is killed: its stage ends too, and the next run goes on from its checkpoint."""

import hashlib
import json
import re
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.pipeline_repo import Repo

STEPS = 100


def training(repo: Repo, log: Path) -> subprocess.Popen:
    """Start `dvc repro train`, and wait until it has kept a step."""
    with log.open("w") as file:
        process = subprocess.Popen(
            ["dvc", "repro", "train"], cwd=repo.path, env=repo.env, stdout=file, stderr=subprocess.STDOUT
        )
    work = repo.path / ".dvc/tmp/work/train"
    while not [*work.glob("*/step-*[0-9]")]:
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    return process


def adapter_of(repo: Repo, revision: str) -> dict[str, str]:
    """Return the MD5 of each of the adapter's files, from DVC's cache."""
    md5 = repo.lock(revision)["train"]["models/adapter"]
    listed = json.loads((repo.path / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).read_text())
    return {file["relpath"]: file["md5"] for file in listed}


@pytest.mark.full  # tests/stages/test_chaos.py kills a training too, without the copy
def test_killed_in_the_workspace_it_goes_on_in_a_copy(repo: Repo, tmp_path: Path) -> None:
    """The adapter is that of a run that was left alone; both runs keep their work in the one repository."""
    repo.set_params({"train.budget": f"{STEPS} steps", "train.validation_every": 40})
    alone = repo.copy(tmp_path / "alone")
    repo.extra_env = {"SFT_CHECKPOINT_SECONDS": "0.1"}

    log = tmp_path / "log"
    dvc = training(repo, log)
    (stage,) = (process for process in psutil.Process(dvc.pid).children(recursive=True))
    dvc.kill()
    dvc.wait()
    psutil.wait_procs([stage], timeout=30)
    assert not stage.is_running()
    stopped = re.search(rf"^(stopped .*), at step (\d+) of {STEPS}; (.*)$", log.read_text(), re.MULTILINE)
    assert stopped and "Traceback" not in log.read_text()
    assert stopped[1] == "stopped because DVC has ended (after a killed `dvc exp run`: make rescue)"
    assert stopped[3] == "the same command again goes on from there" and int(stopped[2]) < STEPS

    said = repo.dvc("exp", "run", "--temp", "--name", "resumed", "train")
    assert f"going on from step {stopped[2]} of {STEPS} (checkpoint of " in said

    assert alone.stage("train") is None
    commit = repo.experiment("resumed")
    files = (alone.path / "models/adapter").iterdir()
    assert adapter_of(repo, commit) == {
        path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in files
    }
    for path in ("plots/train_loss.csv", "plots/validation_loss.csv", "metrics/train.json"):
        assert repo.git("show", f"{commit}:{path}") == (alone.path / path).read_text()
    record = json.loads(repo.git("show", f"{commit}:provenance/train.json"))
    assert record["resumed_at_steps"] == [int(stopped[2])]
    assert alone.json("provenance/train.json")["resumed_at_steps"] is None
