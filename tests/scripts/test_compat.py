"""What the scripts rely on in DVC without its promise: is it still there, and alike?"""

import pytest
from dvc.repo import Repo as Dvc
from dvc.repo.experiments import refs
from dvc.repo.experiments.utils import exp_refs_by_names

from scripts import compat
from tests.pipeline_repo import Repo

LOOK_AT = "changed in this version: see {} and mend scripts/compat.py"


def test_the_reference_of_an_experiment() -> None:
    head = "0123456789" * 4
    where = LOOK_AT.format("dvc/repo/experiments/refs.py")
    assert compat.experiment_reference(head, "mine") == str(refs.ExpRefInfo(head, "mine")), where


def test_the_commit_of_an_experiment(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    where = LOOK_AT.format("dvc/repo/experiments/refs.py and utils.py")
    monkeypatch.chdir(repo.path)
    head = repo.git("rev-parse", "HEAD").strip()
    for name in ("mine", "not-mine"):
        repo.git("update-ref", str(refs.ExpRefInfo(head, name)), head)
    assert compat.experiment_commits("mine") == [head], where
    with Dvc(str(repo.path)) as dvc:
        assert exp_refs_by_names(dvc.scm, {"mine"})["mine"], where  # DVC finds it under this name, too
    assert compat.experiment_commits("m.ne") == [] == compat.experiment_commits("stash")


def test_the_hash_of_a_folder(built: Repo) -> None:
    where = LOOK_AT.format("dvc_data/hashfile/tree.py (Tree.digest)")
    assert compat.folder_hash(built.path / "models/adapter") == built.lock()["train"]["models/adapter"], where


def test_the_files_that_dvc_sees(built: Repo) -> None:
    where = LOOK_AT.format("dvc/ignore.py (DvcIgnoreFilter.find)")
    assert (built.path / "data/raw/README.md").exists()  # .dvcignore names it
    assert compat.data_files(built.path, "data/raw") == [], where
    assert "metrics/train.json" in compat.data_files(built.path, "metrics"), where
