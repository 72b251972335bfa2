"""Experiments at the same time: what they share stays whole, and each has the results that it has alone."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scripts.compat import folder_hash
from tests import pipeline_repo
from tests.pipeline_repo import Repo

SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def outputs(repo: Repo, experiment: str) -> dict[str, dict[str, str]]:
    return pipeline_repo.outputs(repo.git("show", f"{repo.experiment(experiment)}:dvc.lock"))


def mix_of(repo: Repo, size: int) -> str:
    """Return the hash of a mix that is made here, with nothing beside it."""
    repo.set_params({"data.size": size})
    assert repo.stage("mix") is None
    return folder_hash(repo.path / "data/mix")


@pytest.mark.full  # the queue's workers are at once too; here also what they download
def test_two_in_temporary_copies_with_an_empty_download_cache(repo: Repo, tmp_path: Path) -> None:
    """Both fetch and extract the same wheels, and write the same files into DVC's cache. Up to the mix."""
    repo.extra_env["SFT_CACHE"] = str(tmp_path / "downloads")
    # standardize runs in both, and gives what it gave: nothing of the data is unreadable.
    changes = {
        name: ("-S", f"data.max_rejects=0.0{n}", "-S", f"data.size={n}0") for n, name in ((3, "a"), (4, "b"))
    }
    commands = [["dvc", "exp", "run", "--temp", "-n", name, *of, "mix"] for name, of in changes.items()]
    running = [subprocess.Popen(command, cwd=repo.path, env=repo.env, **SILENT) for command in commands]
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    alone = repo.lock()
    a, b = (outputs(repo, name) for name in changes)
    for path in ("data/standardized/base", "data/standardized/extra"):
        assert a["standardize"][path] == b["standardize"][path] == alone["standardize"][path]
    assert a["mix"]["data/mix"] != b["mix"]["data/mix"]
    assert a["mix"]["data/mix"] == mix_of(repo, 30) and b["mix"]["data/mix"] == mix_of(repo, 40)
    assert not list((tmp_path / "downloads").rglob("*.partial"))


# Python runs this at its start: a process of the stage train waits there for another one, and again at its
# end, where it still has its device.
TOGETHER = """import atexit, os, pathlib, sys, time

def wait(moment):
    there = pathlib.Path(os.environ["TOGETHER"])
    (there / f"{os.getpid()}.{moment}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    deadline = time.monotonic() + 120
    while len(list(there.glob(f"*.{moment}"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)

if sys.orig_argv[1:3] == ["-m", "stages.train"]:
    wait("begun")
    atexit.register(wait, "ended")
"""


@pytest.fixture
def workers(repo: Repo) -> Iterator[Repo]:
    """Return the repository; end the workers of its queue, which would wait for more for some seconds."""
    yield repo
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(repo.path):
            process.kill()


@pytest.mark.long
def test_two_workers_of_a_queue_train_the_same_at_once(workers: Repo, tmp_path: Path) -> None:
    """Both have the same work to keep, write the same adapter into DVC's cache, and see one device each."""
    repo, alone = workers, workers.lock()
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(TOGETHER)
    (tmp_path / "together").mkdir()
    repo.extra_env |= {"PYTHONPATH": str(tmp_path / "site"), "TOGETHER": str(tmp_path / "together")}
    # On the processor, where there is none of them; on the first GPU, as alone, where there is one.
    devices = ["0", "0"] if shutil.which("nvidia-smi") else ["5", "7"]
    repo.extra_env["SFT_DEVICES"] = ",".join(devices)
    for name, dpi in (("a", 41), ("b", 42)):
        # A param of train that changes nothing of what it makes, and one that makes two experiments of it.
        changes = ("-S", "train.max_refused=0.5", "-S", f"plot.dpi={dpi}")
        repo.dvc_here("exp", "run", "--queue", "--name", name, *changes, "train")
    subprocess.run(
        ["dvc", "queue", "start", "--jobs", "2"], cwd=repo.path, env=repo.env, check=True, **SILENT
    )
    deadline = time.monotonic() + 300
    while len(repo.git("for-each-ref", "refs/exps/*/*/?").split("\n")) < 3 and time.monotonic() < deadline:
        time.sleep(0.3)
    a, b = (outputs(repo, name) for name in "ab")
    assert len(list((tmp_path / "together").glob("*.begun"))) == 2
    assert sorted(path.read_text() for path in (tmp_path / "together").glob("*.ended")) == devices
    for path in ("models/adapter", "metrics/train.json", "plots/train_loss.csv"):
        assert a["train"][path] == b["train"][path] == alone["train"][path]
    for name, dpi in (("a", 41), ("b", 42)):
        assert f"dpi: {dpi}" in repo.git("show", f"{repo.experiment(name)}:params.yaml")
    # Both had the same key: a folder each, where both were at work at the same time.
    kept = {path.name.rpartition("-")[0] for path in (repo.path / ".dvc/tmp/work/train").glob("*-*.finished")}
    assert len(kept) == 1
