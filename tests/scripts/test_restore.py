"""Outputs come back without a run: from the cache, the run cache or a remote; and what cannot is said."""

import shutil
from pathlib import Path

from scripts.restore import restore
from tests.toy_pipeline import Toy


def restored(toy: Toy) -> str:
    toy.ran()
    with toy.here():
        text = "\n".join(restore())
    assert toy.ran() == []
    return text


def pull_other_machines_run(toy: Toy, folder: Path) -> None:
    """Have the commit of another machine that has trained otherwise, and a run of its params here."""
    toy.set_params({"train.learning_rate": 0.2})
    toy.repro()
    toy.git("checkout", "--quiet", ".")
    other = Toy(toy.clone(folder / "other").path, toy.wheels)
    other.set_params({"train.learning_rate": 0.2})
    other.repro(TOY_MACHINE="other")
    other.commit("another machine's")
    toy.git("pull", "--quiet", str(other.path), "main")


def test_the_lock_of_another_machine(toy: Toy, tmp_path: Path) -> None:
    pull_other_machines_run(toy, tmp_path)
    again = Toy(toy.copy(tmp_path / "again").path, toy.wheels)
    # DVC's own way: the run cache has this run, and it is not looked at.
    assert again.repro() == ["train"]

    text = restored(toy)
    assert "As dvc.lock has them: the outputs of check, mix." in text
    assert "From an earlier run of the same inputs: the outputs of train, evaluate, plot." in text
    assert toy.clean() and toy.repro() == []
    # The results in Git are those of the adapter that is here.
    assert toy.read("models/adapter/weights").endswith("here")
    lock = toy.lock()
    assert toy.read("dvc.lock") != toy.git("show", "HEAD:dvc.lock")
    assert (toy.path / "metrics/train.json").stat().st_nlink == 1  # Git's files are no links into the cache
    # And back at the commit before, all is there too.
    toy.git("checkout", "--quiet", "--force", "HEAD~1")
    restored(toy)
    assert toy.clean() and toy.lock()["train"] != lock["train"]


def test_what_cannot_be_had_stays_and_is_said(toy: Toy) -> None:
    shutil.rmtree(toy.path / ".dvc/cache/files/md5" / toy.lock()["mix"]["data/mix.txt"][:2])
    shutil.rmtree(toy.path / "data")
    toy.git("checkout", "--quiet", "data")
    before = toy.read("dvc.lock")
    text = restored(toy)
    assert "As dvc.lock has them: the outputs of check, train, evaluate, plot." in text
    assert "Not to be had, so `dvc repro` would run: mix." in text
    assert toy.read("dvc.lock") == before and (toy.path / "data/answers.txt").exists()


def test_a_clone_restores_from_the_remote(toy: Toy, tmp_path: Path) -> None:
    toy.dvc_here("remote", "add", "--default", "store", str(tmp_path / "store"))
    toy.commit("remote")
    toy.dvc_here("push")
    clone = Toy(toy.clone(tmp_path / "clone").path, toy.wheels)
    assert "As dvc.lock has them: the outputs of check, mix, train, evaluate, plot." in restored(clone)
    assert clone.clean()
    # A remote that cannot be read (here: its package is missing): said, and nothing that is here is lost.
    clone.dvc_here("remote", "modify", "--local", "store", "url", "gs://bucket")
    shutil.rmtree(clone.path / ".dvc/cache")
    text = restored(clone)
    assert "Not all could be fetched from the remote `store`: " in text
    assert "Not to be had, so `dvc repro` would run: check, mix, train (2 min 5 s), evaluate." in text
    assert not clone.git("status", "--short") and (clone.path / "models/adapter/weights").exists()


def test_an_output_changed_by_hand_is_not_lost(toy: Toy) -> None:
    (toy.path / "data/answers.txt").unlink()
    toy.write("data/answers.txt", "Mine.")
    assert "Not touched" in restored(toy) and toy.read("data/answers.txt") == "Mine."
