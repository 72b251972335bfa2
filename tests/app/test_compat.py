"""What the chatbot relies on in DVC without its promise: is it still there, and alike?"""

from dvc.repo.experiments import refs

from app import compat
from stages.cli import PARAMS
from stages.paths import ADAPTER
from tests.pipeline_repo import Repo

LOOK_AT = "changed in this version: see {} and mend app/compat.py"


def test_the_references_of_experiments() -> None:
    where = LOOK_AT.format("dvc/repo/experiments/refs.py")
    assert refs.EXPS_NAMESPACE == compat.EXPERIMENTS, where
    assert compat.experiment_name(str(refs.ExpRefInfo("0123456789" * 4, "mine"))) == "mine", where
    own = [refs.EXPS_STASH, refs.CELERY_STASH, refs.CELERY_FAILED_STASH, refs.APPLY_STASH, refs.EXEC_HEAD]
    assert [compat.experiment_name(reference) for reference in own] == [None] * len(own), where


def test_the_files_of_a_revision(built: Repo, monkeypatch) -> None:
    where = LOOK_AT.format("DVCFileSystem.info in dvc/fs/dvc.py")
    monkeypatch.chdir(built.path)
    files, text, digest = compat.open_revision("HEAD", PARAMS, ADAPTER)
    assert text == (built.path / PARAMS).read_text(encoding="utf-8"), where
    assert digest == built.lock()["train"][ADAPTER] and digest.endswith(".dir"), where
    assert files.exists(f"{ADAPTER}/adapter_model.safetensors"), where
