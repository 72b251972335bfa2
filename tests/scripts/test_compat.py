"""What the scripts rely on in DVC without its promise: is it still there, and alike?"""

import shutil

import pytest
from dvc.repo.experiments import refs

from scripts import compat
from stages.cli import PARAMS
from stages.paths import ANSWERS
from tests.pipeline_repo import Repo

LOOK_AT = "changed in this version: see {} and mend scripts/compat.py"


def test_the_reference_of_an_experiment() -> None:
    head = "0123456789" * 4
    where = LOOK_AT.format("dvc/repo/experiments/refs.py")
    assert compat.experiment_reference(head, "mine") == str(refs.ExpRefInfo(head, "mine")), where


def test_the_faults_of_reading_a_revision(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    where = LOOK_AT.format("dvc/api/data.py, dvc/scm.py and dvc/exceptions.py")
    monkeypatch.chdir(repo.path)
    assert compat.read_revision("HEAD", PARAMS) == (repo.path / PARAMS).read_text(encoding="utf-8"), where
    shutil.rmtree(repo.path / ".dvc" / "cache")
    for revision, file, fault in (
        ("nowhere", PARAMS, compat.NoSuchRevision),
        ("HEAD", "no-such-file", compat.Unreadable),
        ("HEAD", ANSWERS, compat.Unreadable),  # DVC's, and not in its cache
    ):
        try:
            compat.read_revision(revision, file)
        except Exception as error:
            assert type(error) is fault, where
        else:
            pytest.fail(f"{revision}, {file}: read")
