"""Stages in several processes: how they are started, what they say, and how all end where one does."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sft.core.errors import ParamError, UserError
from stages import cli, launch, stopping
from tests.imports import ROOT
from tests.pipeline_repo import Repo

# What stands for a stage's process here: it says or does what its rank is told to, without PyTorch.
FAKE = """
import os, signal, sys, time
from pathlib import Path

rank = os.environ["RANK"]
Path(sys.argv[1], rank).write_text("\\n".join(f"{name}={value}" for name, value in os.environ.items()))

def end(status, said):
    Path(os.environ["SFT_RANK_REPORT"]).write_text(said)
    os._exit(status)

def stopped(number, _):
    if rank == "0":
        time.sleep(0.5)  # it saves
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    end(128 + number, f"stopped by {name}, at step {rank}")

for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stopped)
exec(sys.argv[2 + int(rank)])
"""
WAIT = "time.sleep(60)"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return what runs two such processes, or more, as a stage runs its own."""
    (tmp_path / "fake_stage.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(launch, "_cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = tmp_path / "seen"
    seen.mkdir()

    def start(*what, count=None):
        with stopping.handled():
            command = ("fake_stage", str(seen), *what)
            launch.launch(count or len(what), "train.devices", command, lambda: None)

    start.seen = lambda rank: dict(
        line.partition("=")[::2] for line in (seen / str(rank)).read_text().splitlines()
    )
    start.folder = seen
    return start


def failure(start, *what):
    """Return what is said where ranks do this; within a minute none of their processes is left."""
    before = time.monotonic()
    with pytest.raises(UserError) as caught:
        start(*what)
    assert time.monotonic() - before < 60
    assert not psutil.Process().children()
    return str(caught.value)


def test_what_a_rank_is_told(start):
    assert start("pass", "pass") is None
    for rank in (0, 1):
        seen = start.seen(rank)
        assert (seen["RANK"], seen["LOCAL_RANK"], seen["WORLD_SIZE"]) == (str(rank), str(rank), "2")
        assert seen["MASTER_ADDR"] == "127.0.0.1" and seen["MASTER_PORT"] == start.seen(0)["MASTER_PORT"]
        assert seen["SFT_LAUNCHER"] == str(os.getpid())
        assert seen["OMP_NUM_THREADS"] == "4"  # half of the cores, so that nobody waits for them


def test_what_all_ranks_say_alike_is_said_once(start):
    said = failure(start, *["end(1, 'error: params.yaml: train.budget: it is too small.')"] * 2)
    assert said == "params.yaml: train.budget: it is too small."


def test_an_error_of_one_rank_comes_first(start, capsys):
    """And not that of the other, which only lost the one that failed."""
    said = failure(start, "time.sleep(0.5); end(75, 'closed')", "end(1, 'Traceback: it was me\\n')")
    assert said.startswith("rank 1 of 2 has failed, as is said above. The others were stopped. ")
    assert capsys.readouterr().err == "Traceback: it was me\n"


def test_a_rank_that_is_killed(start):
    said = failure(start, WAIT, "os.kill(os.getpid(), 9)")
    assert said == (
        "rank 1 of 2 was ended by SIGKILL (Linux does that where memory runs out). The others were stopped. "
        "The same command again goes on from what is kept."
    )


def test_a_rank_that_does_not_end_is_killed(start, monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 0.5)
    deaf = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAIT}"
    assert failure(start, deaf, "end(1, 'error: disk')") == "disk"


def test_the_others_are_on_another_host(start):
    said = failure(start, *["end(75, 'connection closed')"] * 2)
    assert said.startswith(
        "rank 0 of 2 has lost the others (connection closed); the host of one of these says"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_to_all_and_the_first_says_how_far_it_has_come(start, number):
    def when_both_run():
        while len(list(start.folder.iterdir())) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), number)

    threading.Thread(target=when_both_run).start()
    with pytest.raises(stopping.Stopped) as caught:
        start(WAIT, WAIT)
    assert str(caught.value) == f"{stopping.stopped_by(number)}, at step 0"
    assert caught.value.status == 128 + number
    assert not psutil.Process().children()
    with stopping.deferred() as asked:  # by nobody: the next stage in this process
        assert not asked()


def test_a_rank_that_gets_the_signal_twice_finishes_its_step():
    """From Slurm, say, and from its launcher."""
    request = stopping.Request(say=lambda line: None)
    request.waits = True
    request.receive(signal.SIGTERM, None)
    request.receive(signal.SIGTERM, None)
    assert request() and str(request.stopped(", at step 3")) == "stopped by SIGTERM, at step 3"
    alone = stopping.Request()
    alone.waits = True
    alone.receive(signal.SIGTERM, None)
    with pytest.raises(stopping.Stopped):
        alone.receive(signal.SIGTERM, None)
    alone.over()


def test_more_devices_than_there_are(start, monkeypatch):
    said = (
        r"^train\.devices: 9 devices are asked for, and there are 8 processor cores here\. Use 8 at most\.$"
    )
    with pytest.raises(ParamError, match=said):
        start("pass", count=9)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ParamError, match=r"2 devices are asked for, and there is 1 GPU here\. Use 1 at most"):
        start("pass", count=2)
    assert not list(start.folder.iterdir())


def test_several_hosts(start, monkeypatch):
    """This one is the second of two: its ranks are the third and the fourth."""
    for name, value in {"SFT_HOSTS": "2", "SFT_HOST": "1", "SFT_RENDEZVOUS": "10.0.0.1:29500"}.items():
        monkeypatch.setenv(name, value)
    start(*["pass"] * 4)
    assert sorted(path.name for path in start.folder.iterdir()) == ["2", "3"]
    seen = start.seen(3)
    assert (seen["RANK"], seen["LOCAL_RANK"], seen["WORLD_SIZE"]) == ("3", "1", "4")
    assert (seen["MASTER_ADDR"], seen["MASTER_PORT"]) == ("10.0.0.1", "29500")
    with pytest.raises(ParamError, match=r"train\.devices: 3 devices are not as many on each of 2 hosts"):
        start("pass", count=3)
    with pytest.raises(ParamError, match=r"asked for, 9 of them on this host, .* Use 16 at most"):
        start("pass", count=18)


@pytest.mark.parametrize(
    "wrong",
    [
        {"SFT_HOST": "2"},
        {"SFT_HOST": ""},
        {"SFT_HOSTS": "two"},
        {"SFT_RENDEZVOUS": "10.0.0.1"},
        {"SFT_RENDEZVOUS": "10.0.0.1:99999"},
    ],
)
def test_hosts_that_are_not_said(start, monkeypatch, wrong):
    told = {"SFT_HOSTS": "2", "SFT_HOST": "0", "SFT_RENDEZVOUS": "10.0.0.1:29500"} | wrong
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=r"on several hosts SFT_HOSTS is how many there are, SFT_HOST the number"
    ):
        start("pass", count=2)


def test_a_port_that_is_taken(start, monkeypatch):
    from torch.distributed import TCPStore

    taken = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told = {"SFT_HOSTS": "2", "SFT_HOST": "0", "SFT_RENDEZVOUS": f"127.0.0.1:{taken.port}"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"^SFT_RENDEZVOUS: nobody can listen on 127\.0\.0\.1:\d+ here: "):
        start("pass", count=2)


def test_a_rank_ends_with_its_launcher(tmp_path):
    """Which may be killed: DVC sees the stage end, and would start it again beside its ranks."""
    program = '''
import os, subprocess, sys, time
rank = """
import sys, time
from stages import cli
cli.run(lambda _: (print("begun"), time.sleep(60)), int(sys.argv[1]), print)
"""
process = subprocess.Popen([sys.executable, "-c", rank, str(os.getpid())], stdout=open(sys.argv[1], "w"))
print(process.pid, flush=True)
time.sleep(60)
'''
    (tmp_path / cli.PARAMS).write_text("{}")
    said = tmp_path / "said"
    launcher = subprocess.Popen(
        [sys.executable, "-c", program, str(said)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout
    rank = psutil.Process(int(launcher.stdout.readline()))
    while not said.exists() or "begun" not in said.read_text():
        assert launcher.poll() is None
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    psutil.wait_procs([rank], timeout=20)
    assert not rank.is_running() and "stopped because " in said.read_text()


ANSWERS = ("data/answers/baseline.jsonl", "scores/baseline.csv", "metrics/baseline.json")


def test_two_devices_answer_what_one_does(repo: Repo, capfd: pytest.CaptureFixture) -> None:
    """To the byte; and one rank's lines are printed, not both's."""
    expected = {path: (repo.path / path).read_bytes() for path in ANSWERS}
    for path in ANSWERS:
        (repo.path / path).unlink()
    repo.set_params({"evaluate.devices": 2})
    assert repo.stage("evaluate", "base") is None
    assert {path: (repo.path / path).read_bytes() for path in ANSWERS} == expected
    of_run = repo.json("provenance/baseline.json")
    assert of_run["devices"] == 2 and of_run["answers"] == 16
    said = capfd.readouterr()
    assert said.out.count("recipe: 2 examples answered") == 1 and "Traceback" not in said.err

    repo.extra_env = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"}  # as torchrun sets them
    other = repo.run(sys.executable, "-m", "stages.evaluate", "base", ok=False)
    assert other.returncode == 1
    assert other.stderr == (
        "error: params.yaml: evaluate.devices: it is 2, but 3 processes have been started (WORLD_SIZE).\n"
    )


def children(process: subprocess.Popen, count: int) -> list[psutil.Process]:
    while len(found := psutil.Process(process.pid).children()) < count:
        assert process.poll() is None
        time.sleep(0.05)
    return sorted(found, key=lambda child: child.environ()["RANK"])


def test_a_training_in_two_ranks_whose_second_is_killed(repo: Repo, tmp_path: Path) -> None:
    """The run ends with a clear error; the same command again goes on, to the losses of one device."""
    steps = {"train.budget": "12 steps", "train.validation_every": 5}
    repo.set_params({**steps, "train.devices": 2})
    repo.extra_env = {"SFT_CHECKPOINT_SECONDS": "0"}
    log = tmp_path / "log"
    with log.open("w") as file:
        stage = subprocess.Popen(
            [sys.executable, "-m", "stages.train"],
            cwd=repo.path,
            env=repo.env,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    first, second = children(stage, 2)
    while not [*(repo.path / ".dvc/tmp/work/train").glob("*/step-*[0-9]")]:
        assert stage.poll() is None, log.read_text()
        time.sleep(0.02)
    second.kill()
    assert stage.wait(timeout=60) == 1
    assert not first.is_running()
    said = log.read_text()
    assert "Traceback" not in said and "torch" not in said
    assert said.splitlines()[-1] == (
        "error: rank 1 of 2 was ended by SIGKILL (Linux does that where memory runs out). The others were "
        "stopped. The same command again goes on from what is kept."
    )

    assert repo.stage("train") is None
    record, losses = repo.json("provenance/train.json"), repo.path / "plots/train_loss.csv"
    assert record["devices"] == 2 and len(record["resumed_at_steps"]) == 1
    of_two = losses.read_text()
    repo.set_params({"train.devices": 1})
    assert repo.stage("train") is None
    assert repo.json("provenance/train.json")["devices"] == 1
    rows = [[float(value) for value in line.split(",")] for line in of_two.splitlines()[1:]]
    of_one = [[float(value) for value in line.split(",")] for line in losses.read_text().splitlines()[1:]]
    assert len(rows) == 12 and [row[0] for row in rows] == [row[0] for row in of_one]
    # bfloat16 weights: another cut of a step rounds otherwise.
    assert [row[1] for row in rows] == pytest.approx([row[1] for row in of_one], abs=5e-3)
