"""`dvc exp run` and `dvc exp apply`, killed at every step of theirs; and what `make rescue` makes of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scripts.merge_lock import merge_lock
from scripts.processes import dvc_commands, is_dvc
from scripts.pull import pull
from scripts.rescue import rescue
from scripts.restore import restore
from sft.core.errors import UserError
from tests.toy_pipeline import Toy

LOOK_AT = "changed in this version: see dvc/repo/experiments/{} and mend scripts/experiment_state.py"
# Runs DVC, and kills it at a function's nth call: before it, or after.
KILLED = """
import importlib, os, signal, sys
module, name, when, nth = sys.argv.pop(1).split(":")
*path, last = name.split(".")
owner = importlib.import_module(module)
for part in path:
    owner = getattr(owner, part)
found = owner.__dict__[last]
inner, calls = getattr(found, "__func__", found), []
def call(*arguments, **options):
    calls.append(1)
    if when == "before" and len(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    result = inner(*arguments, **options)
    if when == "after" and len(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, last, classmethod(call) if isinstance(found, classmethod) else call)
from dvc.cli import main
sys.argv[0] = "dvc"
sys.exit(main(sys.argv[1:]))
"""
SAVING = "queue/base.py (_stash_exp) and queue/workspace.py"
RUNNING = "executor/local.py (WorkspaceExecutor) and executor/base.py (reproduce)"
EXP_RUN = ("exp", "run", "--name", "mine", "--set-param", "train.learning_rate=0.7")


def killed(toy: Toy, where: str, *arguments: str) -> None:
    command = [sys.executable, "-c", KILLED, where, *arguments]
    result = subprocess.run(command, cwd=toy.path, env=toy.env, capture_output=True, text=True, timeout=120)
    assert result.returncode == -signal.SIGKILL, f"{where} was never reached\n{result.stderr}"


def rescued(toy: Toy) -> str:
    with toy.here():
        text = "\n".join(rescue())
        assert rescue()[0].startswith("Nothing to rescue")
    assert toy.git("symbolic-ref", "--short", "HEAD") == "main\n"
    assert not (toy.path / ".dvc/tmp/repro.dat").exists()
    return text


@pytest.fixture
def changed(toy: Toy) -> Toy:
    """Have changes of the user's own in the workspace: a param, a file of Git's that is staged, a new one."""
    toy.set_params({"plot.dpi": 77})
    toy.write("README.md", "Mine.\n")
    toy.git("add", "README.md")
    toy.write("notes.txt", "Not in Git.\n")
    toy.write(".gitignore", toy.read(".gitignore") + "# Mine.\n")
    toy.ran()
    return toy


def own_changes_are_there(toy: Toy) -> None:
    assert "dpi: 77" in toy.read("params.yaml")
    assert toy.read(".gitignore").endswith("# Mine.\n")
    assert toy.read("README.md") == "Mine.\n" and toy.read("notes.txt") == "Not in Git.\n"


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("scmrepo.git.stash:Stash.push:after:1", False),  # the user's changes are put aside
        ("scmrepo.git.stash:Stash.push:before:2", False),  # HEAD is detached, the params are set
        ("scmrepo.git.stash:Stash.push:after:2", True),  # the experiment is saved
        ("scmrepo.git.stash:Stash.drop:before:1", True),  # the user's changes are back, and put aside still
        ("scmrepo.git.stash:Stash.pop:after:1", True),  # all is as before, and the experiment waits
    ],
)
def test_killed_before_the_stages(changed: Toy, where: str, named: bool) -> None:
    killed(changed, where, *EXP_RUN)
    text = rescued(changed)
    own_changes_are_there(changed)
    assert "learning_rate: 0.1" in changed.read("params.yaml"), LOOK_AT.format(SAVING)
    # What was the experiment's alone, as a command.
    command = "dvc exp run -n mine -S train.learning_rate=0.7"
    assert text.endswith(command) if named else command not in text, LOOK_AT.format(SAVING)
    assert "before make rescue" in changed.git("stash", "list") or not changed.git("stash", "list")


@pytest.mark.parametrize(
    ("where", "ended"),
    [
        (
            "scmrepo.git.stash:Stash.apply:before:3",
            ["none"],
        ),  # HEAD is detached, the workspace is the commit's
        ("dvc.repo.reproduce:_reproduce:before:1", ["none"]),
        ("dvc.repo.reproduce:_reproduce_stage:after:3", ["check", "train"]),
        (
            "dvc.repo.experiments.executor.base:BaseExecutor.commit:before:1",
            ["check", "train", "evaluate", "plot"],
        ),
    ],
)
def test_killed_in_the_stages(changed: Toy, where: str, ended: list[str]) -> None:
    killed(changed, where, *EXP_RUN)
    ran = changed.ran()
    assert changed.run("git", "symbolic-ref", "HEAD", ok=False).returncode, LOOK_AT.format(RUNNING)
    text = rescued(changed)
    own_changes_are_there(changed)
    assert "learning_rate: 0.7" in changed.read("params.yaml")
    assert "train.learning_rate 0.1 -> 0.7, plot.dpi 40 -> 77" in text
    assert f"the stages that ended: {', '.join(ended)}." in text
    assert "\nGo on with: dvc exp run -n mine\n" in text
    assert "your own changes of .gitignore, the params" in text
    assert text.endswith("params and results: git checkout -- . ':!.gitignore' && dvc checkout")
    # What had ended does not run again.
    assert changed.repro() == [stage for stage in ("check", "train", "evaluate", "plot") if stage not in ran]


def test_killed_after_the_commit(changed: Toy) -> None:
    killed(changed, "dvc.repo.experiments.executor.local:WorkspaceExecutor.cleanup:before:1", *EXP_RUN)
    assert "Experiment `mine` had ended: it is kept" in rescued(changed), LOOK_AT.format(RUNNING)
    own_changes_are_there(changed)
    assert "learning_rate: 0.7" in changed.git("show", f"{changed.experiment('mine')}:params.yaml")
    assert changed.clean()


def test_killed_while_an_experiment_is_applied(changed: Toy) -> None:
    changed.git("stash", "push", "--quiet", "--include-untracked")
    changed.dvc_here(*EXP_RUN)
    changed.git("reset", "--quiet", "--hard")
    changed.git("stash", "pop", "--quiet", "--index")
    changed.git("tag", "before", changed.git("stash", "create").strip())
    killed(changed, "scmrepo.git:Git.detach_head:before:1", "exp", "apply", "mine")
    assert not (changed.path / "notes.txt").exists(), LOOK_AT.format("apply.py and stash.py")
    assert "`dvc exp apply` was killed" in rescued(changed)
    own_changes_are_there(changed)
    assert not changed.git("diff", "before")


@pytest.fixture(params=["/bin/sh", "/bin/bash"])
def started(toy: Toy, request: pytest.FixtureRequest) -> Iterator[Toy]:
    """Have a repository whose stage train waits; end what is left of it.

    DVC runs a stage by $SHELL: Debian's sh stays as a process above the stage, bash becomes the stage.
    """
    toy.extra_env |= {"TOY_WAIT": "train", "TOY_SECONDS": "120", "SHELL": request.param}
    toy.ran()
    yield toy
    for process in processes(toy):
        process.kill()


def processes(toy: Toy) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(toy.path):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def start(toy: Toy, *arguments: str) -> subprocess.Popen:
    """Start DVC, and wait until the stage train runs; the test does not wait for what it starts in turn."""
    waiting = toy.log.with_name("waiting")
    waiting.unlink(missing_ok=True)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["dvc", *arguments], cwd=toy.path, env=toy.env, **silent)
    for _ in range(1200):
        if waiting.exists():
            return process
        time.sleep(0.05)
    raise AssertionError("the stage did not start")


def test_a_command_that_runs_is_left_alone_and_a_stage_without_its_dvc_is_stopped(started: Toy) -> None:
    parents = ["-p", "HEAD", "-p", "HEAD~1"]
    merge = started.git("commit-tree", "HEAD^{tree}", "-m", "merge", *parents).strip()
    started.git("reset", "--soft", merge)
    started.path.with_name("store").mkdir()
    started.dvc_here("remote", "add", "--local", "--default", "store", str(started.path.with_name("store")))
    dvc = start(started, *EXP_RUN)
    before = started.run("git", "status", "--porcelain", ok=False).stdout, started.git("rev-parse", "HEAD")
    with started.here(), pytest.raises(UserError, match=rf"process {dvc.pid}: .*dvc exp run --name mine"):
        rescue()
    for writes in (restore, merge_lock, pull):  # DVC's own lock is free while a stage runs
        with started.here(), pytest.raises(UserError, match=rf"DVC is running here.*process {dvc.pid}"):
            writes()
    assert before == (started.git("status", "--porcelain"), started.git("rev-parse", "HEAD"))
    os.kill(dvc.pid, signal.SIGKILL)
    dvc.wait()
    *_, orphan = processes(started)
    text = rescued(started)
    assert f"Stopped stage train, which went on without DVC (process {orphan.pid})." in text
    assert not processes(started) and "dvc exp run -n mine" in text
    # The experiment is given up with what it prints for that.
    assert "Stage train had begun" in text and "your own changes" not in text
    assert " D metrics/train.json" in started.git("status", "--short") and not started.clean()
    started.run("sh", "-c", text.rpartition("params and results: ")[2])
    assert not started.git("status", "--short") and started.clean()


@pytest.mark.long
@pytest.mark.parametrize("started", ["/bin/sh"], indirect=True)  # a worker's tasks, whatever shell they have
def test_temporary_copies_and_tasks_of_dead_workers(started: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of two, its worker killed in the first; and a `--temp` run, killed."""
    for name, rate in (("one", "0.5"), ("two", "0.6")):
        started.dvc_here(
            "exp", "run", "--queue", "--name", name, "--set-param", f"train.learning_rate={rate}"
        )
    start(started, "queue", "start")
    for process in processes(started):
        process.kill()
    temp = start(started, *EXP_RUN, "--temp")
    os.kill(temp.pid, signal.SIGKILL)
    temp.wait()
    assert len(list((started.path / ".dvc/tmp/exps").rglob("tmp*/.dvc"))) == 2
    text = rescued(started)
    assert "Queued again, for the worker was dead: one. Go on: dvc queue start" in text
    assert "Go on: dvc exp run --temp -n mine -S train.learning_rate=0.7" in text
    assert not list((started.path / ".dvc/tmp/exps").rglob("tmp*/.dvc"))
    status = started.dvc_here("queue", "status")
    assert status.count("Queued") == 2 and "Running" not in status, LOOK_AT.format("queue/celery.py")

    # Two workers at once run them under their names, as they were queued, and as if one after the other.
    del started.extra_env["TOY_WAIT"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["dvc", "queue", "start", "--jobs", "2"], cwd=started.path, env=started.env, **silent)
    for _ in range(600):
        if (
            started.git("for-each-ref", "refs/exps/").count("/one")
            + started.git("for-each-ref").count("/two")
            == 2
        ):
            break
        time.sleep(0.1)
    for name, rate in (("one", "0.5"), ("two", "0.6")):
        commit = started.experiment(name)
        assert f"learning_rate: {rate}" in started.git("show", f"{commit}:params.yaml")
        started.git("checkout", "--quiet", "--force", "--detach", commit)
        assert started.repro() == [] and f"learning_rate: {rate}" in started.read("models/adapter/weights")


@pytest.mark.parametrize("end", ["- path: data/m", "outs:\n    - pa"])
def test_what_is_half_written(toy: Toy, end: str) -> None:
    lock = toy.read("dvc.lock")
    toy.write("dvc.lock", lock[: lock.index("  train:")] + "  train:\n    cmd: x\n    " + end)
    with toy.here(), pytest.raises(UserError, match=r"dvc\.lock is half-written: make rescue$"):
        restore()
    toy.write(".git/index.lock", "")
    toy.write(".dvc/tmp/rwlock", "")
    text = rescued(toy)
    assert "dvc.lock was half-written" in text and "index.lock" in text
    assert toy.read("dvc.lock") == lock and toy.clean()


@pytest.mark.parametrize("nth", [1, 3])
def test_a_file_of_gits_that_dvc_was_killed_over(toy: Toy, nth: int) -> None:
    """The same command fails then, and removes the other signs of the one that was killed."""
    temporary = (*EXP_RUN, "--temp")
    killed(toy, f"dulwich.file:_GitFile.close:before:{nth}", *temporary)
    locks = [str(path.relative_to(toy.path)) for path in (toy.path / ".git").rglob("*.lock")]
    assert len(locks) == 1, "DVC writes Git's files otherwise: see dulwich/file.py"
    toy.write(".git/objects/a5/9b0b.lock", "")
    assert "lock" in toy.run("dvc", *temporary, ok=False).stderr
    with toy.here():
        text = "\n".join(rescue())
    assert all(f"Removed {lock}, which" in text for lock in (*locks, ".git/objects/a5/9b0b.lock"))
    assert "repro.dat" not in toy.git("ls-files")
    toy.git("switch", "--quiet", "main")  # as it says where nobody can tell whether HEAD was on a branch
    assert toy.run("dvc", *temporary).returncode == 0


def test_a_detached_head_is_told_of(toy: Toy) -> None:
    """As a run leaves it that ended after one that was killed: nobody can tell whether it was meant."""
    toy.git("checkout", "--quiet", "--detach")
    with toy.here():
        assert "You are on no branch, at the last commit of `main`: git switch main" in rescue()
    assert toy.git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD\n"


def test_a_half_written_lock_of_a_first_run(toy: Toy) -> None:
    toy.git("rm", "--quiet", "--cached", "dvc.lock")
    toy.git("commit", "--quiet", "--amend", "--message", "never run")
    toy.write("dvc.lock", half := toy.read("dvc.lock")[:200] + "\n    outs:\n    - pa")
    with toy.here():
        assert "it is dvc.lock.half-written now" in "\n".join(rescue())
    assert toy.read("dvc.lock.half-written") == half
    assert toy.repro() == [] and toy.clean()


def test_what_uses_dvc_as_a_library_is_seen_and_a_number_that_is_used_again_is_not(toy: Toy) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        noted = {"pid": process.pid, "cmd": "study.py"}
        toy.write(".dvc/tmp/rwlock", json.dumps({"write": {"models/adapter": noted}, "read": {}}))
        (found,) = dvc_commands(toy.path)
        assert (found.pid, found.line, found.queue) == (process.pid, "study.py", False)
        with toy.here(), pytest.raises(UserError, match=rf"process {process.pid}: study\.py"):
            restore()
        toy.write(".dvc/tmp/rwlock", json.dumps({"write": {}, "read": {"data/mix.txt": [noted]}}))
        assert dvc_commands(toy.path) == [found]
        os.utime(toy.path / ".dvc/tmp/rwlock", (0, 0))
        assert dvc_commands(toy.path) == []
        process.communicate("\n")


def test_dvc_s_commands_and_no_others() -> None:
    assert is_dvc(["/usr/bin/python3", "/venv/bin/dvc", "repro"])
    assert is_dvc(["python", "-m", "dvc", "repro"]) and is_dvc(["dvc", "repro"])
    assert is_dvc(["python", "-m", "scripts.experiment_in_copy", "--name", "a"])
    assert not is_dvc(["python", "-m", "stages.train"])
    assert not is_dvc(["vim", "notes", "dvc"]) and not is_dvc(["grep", "-r", "dvc"])
