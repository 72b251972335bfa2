"""One GPU a stage: what each process saw, by numbers of devices that no machine of the tests has.

What the workers of a queue saw is in tests/stages/test_parallel.py.
"""

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import at_once, study_runs
from sft.core.errors import UserError
from sft.core.params import load
from sft.study.plan import Run
from stages import devices
from tests.imports import ROOT
from tests.pipeline_repo import Repo
from tests.toy_pipeline import Toy

# A process that takes devices, and says in a file of its own which it sees, when it began and when it ended.
WORK = """
import json, os, pathlib, sys, time
from stages import devices

taken = devices.take(int(os.environ.get("COUNT", "1")))
seen, place = os.environ["CUDA_VISIBLE_DEVICES"], pathlib.Path(os.environ["SEEN"]) / str(os.getpid())
begin = time.monotonic()
place.with_suffix(".begun").write_text(seen)
"""
END = """
while len(list(place.parent.iterdir())) < int(os.environ["TOGETHER"]) and time.monotonic() < begin + 240:
    time.sleep(0.01)
time.sleep(0.05)
place.with_suffix(".json").write_text(json.dumps([taken, seen, begin, time.monotonic()]))
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which processes say what they saw; with a cache, so locks, of this test alone.

    And with no nvidia-smi, which would say that there are no such GPUs.
    """
    folder = tmp_path / "seen"
    folder.mkdir()
    nvidia_smi(tmp_path / "none", "exit 9")
    monkeypatch.setenv("PATH", str(tmp_path / "none"), prepend=os.pathsep)
    monkeypatch.setenv("SEEN", str(folder))
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TOGETHER", "0")
    return folder


def nvidia_smi(folder: Path, script: str) -> None:
    folder.mkdir()
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


def start(script: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", script], env=os.environ | environment, cwd=ROOT)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def uses(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return when each device was used, in order."""
    found: dict[str, list[tuple[float, float]]] = {}
    for path in folder.glob("*.json"):
        taken, visible, begin, end = json.loads(path.read_text())
        assert visible == ",".join(taken)
        for device in taken:
            found.setdefault(device, []).append((begin, end))
    return {device: sorted(times) for device, times in found.items()}


def overlap(times: list[tuple[float, float]]) -> bool:
    return any(after[0] < before[1] for before, after in itertools.pairwise(times))


def test_a_device_is_one_process_s_until_it_ends_however_it_ends(seen: Path) -> None:
    shared = {"SFT_DEVICES": "5, 7"}
    killed = start(WORK + "time.sleep(240)", **shared)
    wait_for(lambda: list(seen.glob("*.begun")))
    processes = [start(WORK + END, **shared) for _ in range(3)]
    processes.append(start(WORK + "sys.exit('failed')", **shared))
    assert [process.wait(240) for process in processes] == [0, 0, 0, 1]
    assert {path.read_text() for path in seen.glob("*.begun")} == {"5", "7"}
    assert uses(seen).keys() == {"7"} and not overlap(uses(seen)["7"])
    killed.kill()
    killed.wait()
    assert start(WORK + END, **shared).wait(240) == 0
    assert uses(seen).keys() == {"5", "7"}


def test_several_devices_are_taken_at_once_or_none(seen: Path) -> None:
    """Two that want two of three do not wait for each other; what a stage starts has its stage's devices."""
    ranks = 'import subprocess\nsubprocess.run([sys.executable, "-c", os.environ["RANK"]], check=True)\n'
    shared = {"SFT_DEVICES": "0,1,2", "COUNT": "2", "RANK": WORK + "assert not taken and len(seen) == 3\n"}
    processes = [start(WORK + ranks + END, **shared) for _ in range(3)]
    assert [process.wait(240) for process in processes] == [0, 0, 0]
    assert len(list(seen.glob("*.begun"))) == 6  # with the ranks
    assert sorted(map(len, uses(seen).values())) in ([1, 2, 3], [2, 2, 2], [3, 3])
    assert not any(map(overlap, uses(seen).values()))


def test_a_device_that_is_named_twice_is_two_processes_s(seen: Path) -> None:
    together = {"SFT_DEVICES": "5,5", "TOGETHER": "2"}  # each ends when both have begun
    processes = [start(WORK + END, **together) for _ in range(2)]
    assert [process.wait(240) for process in processes] == [0, 0]
    assert overlap(uses(seen)["5"])


def test_a_slurm_job_has_devices_of_its_own(seen: Path) -> None:
    first = start(WORK + END, SFT_DEVICES="0", SLURM_JOB_ID="11", TOGETHER="2")
    second = start(WORK + END, SFT_DEVICES="0", SLURM_JOB_ID="12", TOGETHER="2")
    assert [first.wait(240), second.wait(240)] == [0, 0]


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("all", 1, "'all' is no device. Give numbers as nvidia-smi has them"),
        ("0-3", 1, "'0-3' is no device"),
        ("0,,1", 1, "'' is no device"),
        ("-1", 1, "'-1' is no device"),
        ("0,7", 1, r"there is no GPU 7 here\. nvidia-smi -L lists 2 \(0 to 1\)"),
        ("GPU-c", 1, "there is no GPU GPU-c here"),
        ("0,0", 2, "2 devices are asked for, and '0,0' names 1"),
    ],
)
def test_what_is_no_device(seen, tmp_path, monkeypatch, text: str, count: int, message: str) -> None:
    gpus = [f"GPU {n}: NVIDIA H100 80GB HBM3 (UUID: GPU-{n}a4-6f)" for n in range(2)]
    listed = "\n".join([*gpus, "  MIG 1g.10gb Device 0: (UUID: MIG-3d)"])
    nvidia_smi(tmp_path / "smi", f"echo '{listed}'")
    monkeypatch.setenv("PATH", str(tmp_path / "smi"), prepend=os.pathsep)
    monkeypatch.setenv("SFT_DEVICES", text)
    with pytest.raises(UserError, match=f"^SFT_DEVICES: .*{message}"):
        devices.take(count)
    devices.check_there(["0", "GPU-1a4-6f", "GPU-0", "MIG-3d"])


def test_a_file_system_without_locks(seen, monkeypatch) -> None:
    def acquire(*_: object) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(devices.FileLock, "acquire", acquire)
    monkeypatch.setenv("SFT_DEVICES", "0")
    with pytest.raises(UserError, match=r"0-0\.lock: cannot be locked \(no locks here\).*Set SFT_CACHE"):
        devices.take()


@pytest.mark.parametrize("stage", [("train",), ("evaluate", "base"), ("evaluate", "adapter")])
def test_the_stages_that_run_a_model_take_one(built: Repo, stage: tuple[str, ...]) -> None:
    """Before they load anything: the built repository stays as it is."""
    repo = Repo(built.path, built.wheels, {"SFT_DEVICES": "none"})
    assert str(repo.stage(*stage)).startswith("error: SFT_DEVICES: 'none' is no device.")


@pytest.fixture
def sharing(toy: Toy, seen: Path) -> Toy:
    """Return a repository whose stage train takes a device, and fails at a rate with a 9."""
    toy.write(
        "stages/train.py",
        (toy.path / "stages/train.py").read_text()
        + WORK
        + "if '9' in pathlib.Path('params.yaml').read_text():\n    sys.exit('failed')\n"
        + END,
    )
    toy.write("dvc.yaml", toy.read("dvc.yaml").replace("python -S stages/train.py", "python stages/train.py"))
    toy.commit("devices")
    return toy


def test_a_study_with_a_run_that_fails(sharing: Toy, seen: Path) -> None:
    runs = [Run(f"rate-{rate}", {"train.learning_rate": rate}) for rate in (0.9, 0.2, 0.3)]
    printed = io.StringIO()
    with sharing.here(), contextlib.redirect_stdout(printed):
        os.environ["TOGETHER"] = "3"  # so the third run begins, on the device of the first, before one ends
        values = load("params.yaml")
        with pytest.raises(UserError, match=r"^rate-0\.9 failed, see \.dvc/tmp/study/rate-0\.9\.log\. Mend"):
            study_runs.run_all(runs, values, at_once.share("5,7"))
        log = (study_runs.LOGS / "rate-0.9.log").read_text()
        assert "of SFT_DEVICES=5,7" in log and "failed to run: python stages/train.py" in log
        del runs[0]
        commits = study_runs.run_all(runs, values, 2)
    assert commits == {run.name: sharing.experiment(f"study-{run.name}") for run in runs}
    for run in runs:
        assert f"learning_rate: {run.changes['train.learning_rate']}" in sharing.git(
            "show", f"{commits[run.name]}:params.yaml"
        )
    assert uses(seen).keys() == {"5", "7"}
    lines = printed.getvalue().splitlines()
    assert lines[-2:] == ["[1/2] rate-0.2: finished", "[2/2] rate-0.3: finished"] and len(lines) == 7
