"""The recipes of cluster/: the SSH pair through a real server on the loopback, Slurm's as a job runs it."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.remote import set_up
from tests.imports import ROOT
from tests.pipeline_repo import outputs
from tests.remote_servers import SSHServer
from tests.toy_pipeline import Toy

RECIPES = sorted((ROOT / "cluster").glob("*.sh"))
HOST = "tester@127.0.0.1"


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed: make install-test")
def test_shellcheck_finds_nothing() -> None:
    checked = subprocess.run(["shellcheck", *RECIPES], capture_output=True, text=True)
    assert RECIPES and not checked.stdout + checked.stderr


@pytest.fixture
def shared(toy: Toy) -> Toy:
    """Return a repository with the recipes and a remote; its commands find programs in `bin` first."""
    shutil.copytree(ROOT / "cluster", toy.path / "cluster")
    toy.write(
        "Makefile", "install: requirements.txt\n\tmkdir -p .venv/bin && echo MADE=1 > .venv/bin/activate\n"
    )
    toy.write("requirements.txt", "")
    toy.write("constraints.txt", "")
    (programs := toy.path.parent / "bin").mkdir()
    toy.extra_env["PATH"] = f"{programs}{os.pathsep}{toy.env['PATH']}"
    with toy.here():
        set_up("../remote")  # so DVC has it beside each clone
    toy.commit("remote")
    toy.script("push")
    return toy


def program(toy: Toy, name: str, text: str) -> None:
    path = toy.path.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def is_here(toy: Toy, name: str, rate: float) -> None:
    """See that the repository has the experiment, its lock and metrics, and its cache what it made."""
    commit = toy.experiment(name)
    assert f"learning_rate: {rate}" in toy.git("show", f"{commit}:params.yaml")
    assert toy.git("show", f"{commit}:metrics/train.json") != toy.git("show", "HEAD:metrics/train.json")
    adapter = outputs(toy.git("show", f"{commit}:dvc.lock"))["train"]["models/adapter"]
    assert adapter != toy.lock()["train"]["models/adapter"]
    assert (toy.path / ".dvc/cache/files/md5" / adapter[:2] / adapter[2:]).exists()
    assert not toy.git("status", "--porcelain") and toy.clean()


@pytest.fixture
def ssh(shared: Toy, tmp_path: Path) -> Iterator[SSHServer]:
    """Have a server that runs commands, and a `ssh` that knows it; OpenSSH's looks for no HOME."""
    client = shutil.which("ssh")
    if not client:
        pytest.skip("ssh is not installed")
    environment = shared.env | {"HOME": str(tmp_path / "server")}
    with SSHServer(tmp_path / "server", tmp_path / "home", environment) as server:
        files = tmp_path / "home/.ssh"
        options = f"-i {files}/id_ed25519 -o UserKnownHostsFile={files}/known_hosts -o IdentitiesOnly=yes"
        program(shared, "ssh", f'exec {client} -F none -p {server.port} {options} -o BatchMode=yes "$@"')
        yield server


def test_an_experiment_on_another_machine_by_ssh(shared: Toy, ssh: SSHServer) -> None:
    there = ssh.folder / "sft-runs"
    change = ("--set-param", "train.learning_rate=0.7")

    def start(ok: bool = True) -> str:
        result = shared.run("bash", "cluster/ssh_start.sh", HOST, "mine", *change, ok=ok)
        assert (result.returncode == 0) == ok
        return result.stdout + result.stderr

    def fetch(status: int) -> str:
        result = shared.run("bash", "cluster/ssh_fetch.sh", HOST, "mine", ok=False)
        assert result.returncode == status, result.stdout + result.stderr
        return result.stdout + result.stderr

    def ended() -> None:
        deadline = time.monotonic() + 120
        while not (there / "mine.status").exists():
            assert time.monotonic() < deadline, (there / "mine.log").read_text()
            time.sleep(0.05)

    there.mkdir()
    (there / "remote").symlink_to(shared.path.parent / "remote")  # a folder that both machines have
    assert "there is no experiment mine here" in fetch(1)
    shared.set_params({"plot.dpi": 41})
    assert "changes that are in no commit" in start(ok=False)
    shared.git("checkout", "--quiet", "params.yaml")

    # Its environment is not there; then it is made.
    shared.extra_env["SFT_VENV"] = "/none"
    assert "experiment mine: started" in start()
    ended()
    said = fetch(1)
    assert "/none/bin/activate" in said and "error: experiment mine failed or was stopped" in said
    del shared.extra_env["SFT_VENV"]
    with (there / "mine.lock").open() as lock:  # as the run holds it
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "mine: running. Its last line: " in fetch(75)
        assert "error: experiment mine is running there." in start(ok=False)
    start()
    ended()
    assert "experiment mine: here." in fetch(0)
    is_here(shared, "mine", 0.7)
    assert "MADE" in (there / "environment/.venv/bin/activate").read_text()


def test_an_experiment_on_a_slurm_cluster(shared: Toy) -> None:
    """The second job of an array. There is no Slurm here: `srun` is a program that runs what it is given."""
    program(shared, "srun", 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"')
    (shared.path.parent / "experiments.txt").write_text("a\nb --set-param 'train.learning_rate=0.6'\n")
    (shared.path / ".venv").symlink_to(sys.prefix)  # as `make install` has it
    (shared.path / ".git/info/exclude").write_text(".venv\n")
    (shared.path / ".dvc/config.local").write_text("[core]\n    checksum_jobs = 1\n")
    shared.extra_env["SLURM_SUBMIT_DIR"] = str(shared.path)
    command = ("bash", "cluster/slurm.sh", "../experiments.txt", shared.git("rev-parse", "HEAD").strip())
    shared.extra_env["SLURM_ARRAY_TASK_ID"] = "3"
    result = shared.run(*command, ok=False)
    assert result.returncode == 2 and "experiments.txt has no experiment in line 3" in result.stderr
    shared.extra_env["SLURM_ARRAY_TASK_ID"] = "2"
    shared.run(*command)
    clone = shared.path.with_name("repo-b")
    assert (clone / ".dvc/config.local").exists()
    shared.script("pull")
    is_here(shared, "b", 0.6)


def test_what_is_no_name() -> None:
    for recipe, *arguments in (
        ("experiment.sh", "origin", "HEAD", "clone", "a/b"),
        ("experiment.sh", "origin", "HEAD", "clone"),
        ("ssh_start.sh", "host", "-S"),
        ("ssh_fetch.sh", "host", "$(a)"),
    ):
        result = subprocess.run(
            ["bash", ROOT / "cluster" / recipe, *arguments], capture_output=True, text=True
        )
        assert result.returncode == 2 and ("usage" in result.stderr or "not a name" in result.stderr)
