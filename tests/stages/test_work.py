"""Where a stage keeps what it has done: what names the folder, who gets it, and how long it is kept."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc.repo import Repo as DvcRepo
from filelock import FileLock

from sft.core import provenance
from stages import inputs, kept_work, work
from stages.cli import run
from tests.imports import ROOT

PIPELINE = """stages:
  train:
    cmd: python -m stages.train
    params: [train.seed, train.lora.r, tasks]
    deps: [mix.parquet, code]
"""
IGNORED = "/raw/README.md\n.DS_Store\n__pycache__\n"
PARAMS = "train: {seed: 1, lora: {r: 4}, other: 5}\ntasks: {a: {b: 1}}\n"


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    Path(".dvc").mkdir()
    Path("code/__pycache__").mkdir(parents=True)
    for path, text in (
        ("dvc.yaml", PIPELINE),
        ("params.yaml", PARAMS),
        ("mix.parquet", "rows"),
        (".dvcignore", IGNORED),
    ):
        Path(path).write_text(text)
    Path("code/a.py").write_text("a = 1")
    return tmp_path


def leave_something(others=None, text="half"):
    """Stop in the middle of the work; return the folder that it was in."""
    with pytest.raises(KeyboardInterrupt), taken(others) as path:
        (path / "some").write_text(text)
        raise KeyboardInterrupt
    return path


def taken(others=None):
    return work.folder(inputs.of("train"), others or {"revision": "abc"})


def test_it_stays_on_an_exception_and_goes_on_success(repository):
    path = leave_something()
    assert path.is_relative_to(repository / ".dvc/tmp/work/train")
    with taken() as again:
        assert again == path and (again / "some").read_text() == "half"
    assert list(path.parent.iterdir()) == []
    with pytest.raises(ZeroDivisionError), taken():  # with nothing in it, it does not stay
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []


def edit(path, text):
    Path(path).write_text(text)


CHANGES = {
    "a param": lambda patch: edit("params.yaml", PARAMS.replace("r: 4", "r: 8")),
    "a param of a group": lambda patch: edit("params.yaml", PARAMS.replace("b: 1", "b: 2")),
    "data": lambda patch: edit("mix.parquet", "swor"),
    "code": lambda patch: edit("code/a.py", "a = 2"),
    "a file's name": lambda patch: Path("code/a.py").rename("code/b.py"),
    "a dep that is gone": lambda patch: Path("mix.parquet").unlink(),
    "the command": lambda patch: edit("dvc.yaml", PIPELINE.replace("-m stages", "-O -m stages")),
    "a package": lambda patch: patch.setattr(provenance, "versions", lambda: {"torch": "1.0"}),
    "a package beside": lambda patch: patch.setattr(work, "BESIDE", ("pytest",)),
    "a variable": lambda patch: patch.setenv("NVIDIA_TF32_OVERRIDE", "0"),
    "the driver": lambda patch: patch.setattr(work, "DRIVER", Path("dvc.yaml")),
    "the device": lambda patch: patch.setattr(provenance, "device_name", lambda: "NVIDIA H100"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_input_is_in_its_name(change, monkeypatch):
    path = leave_something()
    CHANGES[change](monkeypatch)
    with taken() as other:
        assert other != path and not any(other.iterdir())


def test_what_only_the_stage_knows_is_in_its_name():
    path = leave_something({"revision": "abc"})
    for others in ({"revision": "abd"}, {"revision": None}, {"model": "abc"}):
        with taken(others) as other:
            assert other != path


def test_what_the_stage_does_not_read_is_not_in_its_name():
    path = leave_something()
    edit("params.yaml", PARAMS.replace("other: 5", "other: 6"))
    edit("code/__pycache__/a.cpython-312.pyc", "compiled")
    edit("code/.DS_Store", "as a file manager does")
    edit("dvc.yaml", PIPELINE + "  plot: {cmd: python -m stages.plot}\n")
    with taken() as again:
        assert again == path


def test_inputs_are_those_of_the_beginning():
    """What is edited while a stage runs is not what it has read."""
    begun = inputs.of("train")
    edit("params.yaml", PARAMS.replace("r: 4", "r: 8"))
    with pytest.raises(KeyboardInterrupt), work.folder(begun, {}) as path:
        (path / "some").touch()
        raise KeyboardInterrupt
    with work.folder(inputs.of("train"), {}) as other:
        assert other != path


def test_in_a_copy_of_the_repository_it_is_the_parent_s(repository, monkeypatch):
    path = leave_something()
    copied = repository / ".dvc/tmp/exps/standalone/tmp1"
    copied.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml", "mix.parquet", "code", ".dvcignore"):
        (shutil.copytree if name == "code" else shutil.copy)(name, copied / name)
    (copied / ".dvc").mkdir()
    monkeypatch.chdir(copied)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    with taken() as again:
        assert again == path


def test_several_at_once_have_one_each():
    path = leave_something()
    with taken() as first, taken() as second, taken() as third:
        assert first == path and len({first, second, third}) == 3
    # The one touched last is preferred, whatever its number.
    with pytest.raises(KeyboardInterrupt), taken(), taken() as second:
        (second / "some").touch()
        raise KeyboardInterrupt
    assert not path.exists()
    path.mkdir()
    (path / "some").touch()
    for latest, other in ((path, second), (second, path)):
        for made in (other, other / "some"):
            os.utime(made, (time.time() - 60, time.time() - 60))
        for made in (latest, latest / "some"):
            os.utime(made)
        with pytest.raises(KeyboardInterrupt), taken() as again:
            assert again == latest
            raise KeyboardInterrupt


HOLDING = """
import sys, time
from stages import inputs, work
with work.folder(inputs.of("train"), {"revision": "abc"}) as path:
    (path / "some").write_text("half")
    print(path, flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_nothing(repository):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    held = Path(holder.stdout.readline().strip())
    with taken() as other:
        assert other != held
    holder.kill()
    holder.wait()
    with taken() as again:
        assert again == held and (again / "some").read_text() == "half"


def test_what_nobody_has_touched_for_two_weeks_is_removed():
    old, held, young = (leave_something({"revision": name}) for name in ("old", "held", "young"))
    for path, days in ((old, 15), (held, 15), (young, 13)):
        then = time.time() - days * 24 * 3600
        for made in (path / "some", path):
            os.utime(made, (then, then))
    with FileLock(f"{held}.lock"), taken({"revision": "other"}):
        assert (old.exists(), held.exists(), young.exists()) == (False, True, True)
    assert not Path(f"{old}.lock").exists()


def record(stage="train", **changed):
    """Write dvc.lock as DVC does when a stage has ended; `changed` is another hash of a dep, say."""
    entry = inputs.of(stage).entry()
    deps = [{"path": path, "md5": changed.get(path, md5)} for path, md5 in entry["deps"].items()]
    there = {"cmd": entry["cmd"], "deps": deps, "params": {"params.yaml": entry["params"]}}
    edit("dvc.lock", json.dumps({"schema": "2.0", "stages": {stage: there}}))


def test_it_stays_until_dvc_has_recorded_the_success(monkeypatch):
    """Killed before that, DVC runs the stage again; others write dvc.lock too, `dvc exp run` as it begins."""
    monkeypatch.setenv("DVC_STAGE", "train")
    record(mix="the run before")
    edit("mix.parquet", "other rows")
    path = leave_something()
    befores = [lambda: None, lambda: os.utime("dvc.lock"), lambda: record(**{"mix.parquet": "another's"})]
    for before in [*befores, lambda: edit("dvc.lock", "stages: {train: ["), Path("dvc.lock").unlink]:
        with taken() as again:
            assert again == path and (again / "some").read_text() == "half"
        before()
        kept_work.remove_old(besides="plot/")
        assert (path / "some").exists()
    record()
    kept_work.remove_old(besides="train/")  # as it begins, a stage does not know its key yet
    with pytest.raises(KeyboardInterrupt), taken() as again:  # the run that may be about to go on from it
        assert (again / "some").exists()
        raise KeyboardInterrupt
    with taken():
        pass
    kept_work.remove_old(besides="plot/")
    assert not [*path.parent.iterdir()]


def test_whether_it_goes_is_decided_where_nobody_holds_it(monkeypatch):
    path = leave_something()
    old = [True, False]  # somebody takes it between the look and the lock, and gives it back
    monkeypatch.setattr(kept_work, "_is_done_with", lambda path: old.pop(0))
    kept_work.remove_old(besides="plot/")
    assert (path / "some").exists() and not old


def test_what_another_user_has_locked_stays_and_costs_nothing(monkeypatch, capsys):
    path = leave_something({"revision": "theirs"})
    os.utime(path / "some", (0, 0))
    os.utime(path, (0, 0))
    lock_of = kept_work.lock_of

    def refused(of):
        if of == path:
            raise PermissionError(13, "Permission denied")
        return lock_of(of)

    monkeypatch.setattr(kept_work, "lock_of", refused)
    with taken() as mine:
        assert mine.is_relative_to(Path.cwd() / ".dvc")
    assert path.exists() and capsys.readouterr().err == ""


def test_dvc_records_a_stage_by_what_its_folder_has(repository, monkeypatch):
    """The hashes of files, large ones and folders, and values of params, are those that DVC writes."""
    shutil.rmtree(".dvc")
    edit("params.yaml", PARAMS.replace("seed: 1", "seed: 2e-4").replace("b: 1", "b: [1, null, é, '1']"))
    Path("mix.parquet").write_bytes(bytes(inputs.SMALL + 1))
    edit("code/.DS_Store", "")
    for name in ("é.py", "Z.py", "b/c.py"):
        Path("code", name).parent.mkdir(exist_ok=True)
        edit(f"code/{name}", name)
    edit("dvc.yaml", PIPELINE.replace("python -m stages.train", "echo same"))
    with DvcRepo.init(no_scm=True) as repo:
        repo.reproduce()
    entry = {"stage": "train", **json.loads(json.dumps(inputs.of("train").entry()))}
    assert inputs.in_lock(entry, Path("dvc.lock"))
    for name, other in (("cmd", "echo"), ("params", {}), ("deps", {**entry["deps"], "code": "0.dir"})):
        assert not inputs.in_lock({**entry, name: other}, Path("dvc.lock"))


def test_the_beginning_of_any_stage_removes_what_is_recorded(monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train")
    with taken() as path:
        (path / "some").touch()
    record()
    edit("dvc.yaml", PIPELINE + "  plot: {cmd: python -m stages.plot, params: [train.other]}\n")
    monkeypatch.setenv("DVC_STAGE", "plot")
    run(lambda values: None)
    assert not path.exists()


def test_of_a_copy_of_the_repository_that_is_gone_nobody_can_tell_so_it_stays_for_a_day(
    repository, monkeypatch
):
    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.setenv("DVC_ROOT", str(repository))
    copied = repository / "copied"
    copied.mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(name, copied / name)
    monkeypatch.chdir(copied)
    with taken() as path:
        (path / "some").touch()
    with taken({"revision": "other"}):
        assert path.exists()
    monkeypatch.chdir(repository)
    shutil.rmtree(copied)  # as DVC does where the stage's process ended badly after all
    with taken({"revision": "other"}):
        assert (path / "some").exists()
    finished = path.with_name(f"{path.name}.finished")
    day_ago = finished.stat().st_mtime - kept_work.KEPT_OF_COPIES - 1
    os.utime(finished, (day_ago, day_ago))
    with taken({"revision": "other"}):
        assert not path.exists()


def test_a_folder_that_cannot_be_written_costs_a_warning(repository, capsys):
    edit(".dvc/tmp", "no folder")
    with taken() as path:
        (path / "some").touch()
        assert not path.is_relative_to(repository)
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {repository}/.dvc/tmp/work/train: cannot be written")
    assert said.endswith("what train has done is lost if it is stopped.\n") and not path.exists()


def test_without_dvc_it_is_temporary(repository):
    for removed in ("dvc.yaml", ".dvc"):
        shutil.rmtree(removed) if removed == ".dvc" else Path(removed).unlink()
        with taken() as path:
            assert path.is_dir() and not path.is_relative_to(repository)
        assert not path.exists()
        edit("dvc.yaml", PIPELINE)


def test_of_a_pipeline_that_has_run_to_its_end_nothing_is_left(built):
    """The last stage, which keeps nothing, removes what those before it have kept; DVC has recorded these."""
    assert {path.name for path in (built.path / ".dvc/tmp/work").iterdir()} == {
        "train",
        "baseline",
        "evaluate",
    }
    assert not [*(built.path / ".dvc/tmp/work").glob("*/*")]
