"""One screen: what made the results, what differs now, and what would run; held to what DVC then does."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from scripts import machine, status
from scripts.code_changes import changed_files
from scripts.lock_entries import locked_entries
from scripts.repro_forecast import Does, forecast
from scripts.stage_entries import opened
from sft.core.params import load
from tests.pipeline_repo import ROOT, Repo
from tests.toy_pipeline import Toy


def shown(toy: Toy) -> str:
    with toy.here():
        before = toy.read("dvc.lock") if (toy.path / "dvc.lock").exists() else None
        text = "\n".join(status.status())
        assert before is None or before == toy.read("dvc.lock")
    return text


def would_run(toy: Toy) -> tuple[list[str], list[str]]:
    """Return what runs by the forecast, and what may run."""
    with toy.here(), opened() as stages:
        found = forecast(stages, locked_entries())
    runs, may_run = (
        [name for name, one in found.items() if one.does is does] for does in (Does.RUNS, Does.MAY_RUN)
    )
    return runs, may_run


def changed(toy: Toy, name: str, old: str, new: str) -> None:
    text = toy.read(name)
    assert old in text
    toy.write(name, text.replace(old, new, 1))


def tried(toy: Toy) -> None:
    """Have a run of other params in the run cache."""
    toy.set_params({"train.learning_rate": 0.2})
    toy.repro()
    toy.git("checkout", "--quiet", ".")
    with toy.here():
        toy.check_out()
    toy.set_params({"train.learning_rate": 0.2})


def without_check(toy: Toy) -> None:
    """Have a dvc.lock from before the stage check, on whose output all others now depend."""
    lock = load(toy.path / "dvc.lock")
    del lock["stages"]["check"]
    for entry in lock["stages"].values():
        entry["deps"] = [dep for dep in entry["deps"] if dep["path"] != "data/params-checked.txt"]
    toy.write("dvc.lock", json.dumps(lock))
    shutil.rmtree(toy.path / ".dvc/cache/runs")  # which has runs with that dependency


CASES: dict[str, tuple[Callable[[Toy], object], str, list[str]]] = {
    "nothing": (lambda toy: None, "Up to date: `dvc repro` has nothing to do.", []),
    "param": (
        lambda toy: toy.set_params({"train.learning_rate": 0.3, "plot.dpi": 50}),
        "train        runs: train.learning_rate 0.1 -> 0.3\n  evaluate     may run: after train\n"
        "  plot         runs: after evaluate; plot.dpi 40 -> 50\n\n"
        "dvc.lock is behind: `dvc repro` runs check, train, plot, which took 2 min 5 s last time "
        "(train with other params); it may run evaluate.",
        ["check", "train", "evaluate", "plot"],
    ),
    "code": (
        lambda toy: changed(toy, "stages/evaluate.py", "import hashlib", "import hashlib "),
        "evaluate     runs: stages/evaluate.py",
        ["evaluate"],
    ),
    "command": (
        lambda toy: changed(toy, "dvc.yaml", "python -S stages/mix.py", "python -SE stages/mix.py"),
        "mix          runs: its command in dvc.yaml",
        ["mix"],
    ),
    "by hand": (
        lambda toy: toy.write("metrics/train.json", "{}"),
        "train        from DVC's cache: metrics/train.json changed by hand",
        [],
    ),
    "run cache": (
        tried,
        "train        from the run cache: train.learning_rate 0.1 -> 0.2",
        [],
    ),
    "no data": (
        lambda toy: shutil.rmtree(toy.path / ".dvc/cache"),
        "mix          runs: data/mix.txt not in DVC's cache\n"
        "  train        runs: after mix; models/adapter not in DVC's cache\n"
        "  evaluate     runs: after train; data/answers.txt not in DVC's cache\n"
        "  plot         may run: after evaluate\n\n"
        "Nothing has changed, but outputs are not here: `make restore` gets what a remote has, `dvc repro` "
        "runs check, mix, train, evaluate, which took 2 min 5 s last time; it may run plot.",
        ["check", "mix", "train", "evaluate"],
    ),
    "all but check run": (
        lambda toy: (
            without_check(toy),
            changed(toy, "stages/evaluate.py", "import hashlib", "import  hashlib"),
        ),
        "train        runs: after check, mix; data/params-checked.txt a new dependency in dvc.yaml\n"
        "  evaluate     runs: after check, train; data/params-checked.txt a new dependency in dvc.yaml; "
        "stages/evaluate.py\n",
        ["check", "mix", "train", "evaluate", "plot"],
    ),
    "never run": (lambda toy: (toy.path / "dvc.lock").unlink(), "dvc.lock: missing", []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_is_what_dvc_does(toy: Toy, case: str) -> None:
    change, said, ran = CASES[case]
    change(toy)
    toy.ran()
    assert said in shown(toy)
    assert toy.ran() == []
    runs, may_run = would_run(toy)
    assert set(runs) <= set(ran) <= {*runs, *may_run}
    assert toy.repro() == ran


def test_what_made_the_results_and_what_is_another_one_now(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status.provenance, "versions", lambda: {"python": "3.11.0", "torch": "0.2"})
    monkeypatch.setattr(status, "device_class", lambda: "cpu")
    text = shown(toy)
    assert text.startswith(
        "dvc.lock: committed\nmade by: python 3.11.0, torch 0.1, on cpu (x86_64, 2 threads)\n"
        "  another version now: torch 0.1 (now 0.2)\n\n"
    )
    monkeypatch.setattr(status, "device_class", lambda: "NVIDIA H200")
    assert "another device now: NVIDIA H200, not cpu (x86_64, 2 threads)\n" in shown(toy)


def test_the_state_of_the_lock_in_git(toy: Toy) -> None:
    toy.write("dvc.lock", toy.read("dvc.lock") + "\n")
    assert "dvc.lock: changed since the last commit, and not committed" in shown(toy)


def test_stages_that_were_stopped_that_run_and_that_have_ended(toy: Toy) -> None:
    """As stages/work.py leaves the folders of a stage that was stopped, one that runs and one that ended."""
    for name in ("train/0123-0", "baseline/4567-0", "evaluate/89ab-0"):
        toy.write(f".dvc/tmp/work/{name}/checkpoint", "x")
        toy.write(f".dvc/tmp/work/{name}.lock", "")
    toy.write(".dvc/tmp/work/evaluate/89ab-0.finished", "[]")
    stopped = toy.path / ".dvc/tmp/work/train/0123-0/checkpoint"
    os.utime(stopped, (moment := time.mktime((2031, 5, 6, 7, 8, 0, 0, 0, -1)), moment))
    with FileLock(toy.path / ".dvc/tmp/work/baseline/4567-0.lock"):
        text = shown(toy)
    assert "Stage train was stopped 2031-05-06 07:08: with the same inputs it goes on there." in text
    assert "Stage baseline is running." in text and "baseline was stopped" not in text
    assert "Stage evaluate" not in text


def test_the_command(toy: Toy) -> None:
    """It does nothing else than it is asked."""
    assert "what `dvc repro` would" in toy.script("status", "--help").stdout
    assert toy.script("status", "now", ok=False).returncode == 2


def test_the_time_of_a_stage_that_was_stopped_is_that_of_head(toy: Toy) -> None:
    toy.set_params({"train.learning_rate": 0.3})
    (toy.path / "provenance/train.json").unlink()  # as DVC does before it runs the stage
    assert "runs check, train, which took 2 min 5 s last time (train with other params);" in shown(toy)
    toy.commit("lost")
    assert "runs check, train; the time of train is unknown; it may run" in shown(toy)


def test_a_merge_whose_sides_have_run_what_would_run(toy: Toy) -> None:
    toy.git("switch", "--quiet", "--create", "theirs")
    toy.set_params({"plot.dpi": 50})
    toy.repro()
    toy.commit("theirs")
    toy.git("switch", "--quiet", "main")
    toy.git("merge", "--quiet", "--no-edit", "--strategy", "ours", "theirs")
    shutil.rmtree(toy.path / ".dvc/cache/runs")
    with toy.here():
        toy.check_out()
    assert "HEAD is a merge" not in shown(toy)
    toy.set_params({"plot.dpi": 60})
    text = shown(toy)
    assert "plot.dpi 40 -> 60" in text and "HEAD is a merge" not in text
    toy.set_params({"plot.dpi": 50})
    assert "HEAD is a merge: `make merge-lock` takes what a side has run: check, plot." in shown(toy)


def test_a_lock_in_conflict(toy: Toy) -> None:
    for branch, rate in (("theirs", "0.2"), ("main", "0.3")):
        toy.git("switch", "--quiet", "-C", branch)
        toy.write("dvc.lock", toy.read("dvc.lock").replace("learning_rate: 0.1", f"learning_rate: {rate}"))
        toy.commit(branch)
        toy.git("switch", "--quiet", "-C", "base", "HEAD~1")
    toy.git("switch", "--quiet", "main")
    assert toy.run("git", "merge", "theirs", ok=False).returncode
    assert shown(toy) == "dvc.lock: in conflict. Resolve what else is in conflict, then: make merge-lock"


def test_the_device_of_a_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'NVIDIA H200'\necho 'NVIDIA L4'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine.importlib.metadata, "version", lambda package: "2.13.0")
    assert machine.device_class() == "NVIDIA H200"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.device_class() == "cpu"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(machine.importlib.metadata, "version", lambda package: "2.13.0+cpu")
    assert machine.device_class() == "cpu"


def test_the_files_of_a_folder_that_changed(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the project's own pipeline: a stage's folders are named by their hash alone in dvc.lock."""
    monkeypatch.chdir(repo.path)
    deps = load(repo.path / "dvc.lock")["stages"]["mix"]["deps"]
    (read,) = (dep["md5"] for dep in deps if dep["path"] == "sft/mixing")
    assert changed_files("sft/mixing", read) == []
    for name in ("mix.py", "filters.py"):
        with (repo.path / "sft/mixing" / name).open("a") as file:
            file.write("# Changed.\n")
    (repo.path / "sft/mixing/new.py").write_text("")
    repo.git("commit", "--quiet", "--message", "one of them", "sft/mixing/mix.py")
    assert changed_files("sft/mixing", read) == ["filters.py", "mix.py", "new.py"]
    assert changed_files("sft/mixing", "0" * 32 + ".dir") == []


def test_the_screen_in_the_docs_is_of_this_pipeline() -> None:
    (screen,) = re.findall(
        r"^```\n(dvc\.lock: .*?)^```", (ROOT / "docs/recovery.md").read_text(), re.M | re.S
    )
    assert re.findall(r"^  (\w+) +(?:runs|up to date)", screen, re.M) == list(
        load(ROOT / "dvc.yaml")["stages"]
    )
