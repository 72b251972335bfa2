"""What is edited while a stage runs is not recorded as what its results were made of."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from dvc.exceptions import ReproductionError
from dvc.repo import Repo as Dvc

from sft.core.errors import UserError
from sft.core.kept_results import KeptResults
from sft.training.checkpoints import Checkpoints, Progress
from stages import inputs
from tests.imports import ROOT

PIPELINE = "stages: {make: {cmd: python make.py, params: [size], deps: [make.py, code], outs: [made]}}\n"
PROGRESS = Progress(1, 2, 0.0, 0.0, [], [], {}, 0)
SCRIPT = """
import pathlib
from stages.cli import run

def main(values):
    pathlib.Path("made").write_text(str(values["size"]))
    pathlib.Path("params.yaml").write_text("size: 2")  # as a user may, in an editor

run(main)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"dvc.yaml": PIPELINE, "params.yaml": "size: 1\n", "make.py": SCRIPT}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / ".dvcignore").write_text("__pycache__\n.DS_Store\n")
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "code" / "part.py").write_text("1", encoding="utf-8")
    (tmp_path / "code" / "data.bin").write_bytes(bytes(3 << 20))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("params.yaml", "size: 2\n", "size 1 -> 2"),
        ("code/part.py", "2", "code/part.py"),
        ("code/new.py", "1", "code/new.py"),
        ("code/data.bin", "1", "code/data.bin"),
        ("params.yaml", "other: 1\nsize: 1  # and a comment\n", None),
        ("code/part.py", "1", None),  # written anew, and the same
        ("code/.DS_Store", "1", None),
        ("code/__pycache__/part.pyc", "1", None),
        ("other.py", "1", None),
    ],
)
def test_what_counts_as_an_edit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, text: str, said: str | None
) -> None:
    monkeypatch.setenv("DVC_STAGE", "make")

    def expected() -> pytest.RaisesExc[UserError]:
        return pytest.raises(UserError, match=rf"^{said}: changed while stage make was running")

    with expected() if said else nullcontext(), inputs.unchanged():
        begun = inputs.of("make")
        assert begun
        begun.check()
        (folder / path).write_text(text, encoding="utf-8")
        if said:  # before the first checkpoint, or answer, is kept
            with expected():
                KeptResults(folder / "kept", begun.check).put("answers", "key", [1], 0.0)
            with expected():
                Checkpoints(folder, check=begun.check).save(PROGRESS, lambda path: None)
    assert not (folder / "kept").exists() and not [*folder.glob("step-*")]


def test_the_check_before_something_is_kept_is_made_once(folder: Path) -> None:
    calls: list[int] = []
    kept, checkpoints = (
        KeptResults(folder / "kept", lambda: calls.append(1)),
        Checkpoints(folder, check=lambda: calls.append(2)),
    )
    for _ in range(2):
        kept.put("answers", "key", [1], 0.0)
        checkpoints.save(PROGRESS, lambda path: None)
    assert calls == [1, 2]


def test_nothing_is_recorded_where_dvc_does_not_run_the_stage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with inputs.unchanged():
        (folder / "params.yaml").unlink()


def test_dvc_records_no_result_of_other_params(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with Dvc.init(no_scm=True) as dvc:
        with pytest.raises(ReproductionError):
            dvc.reproduce()
        said = capfd.readouterr().err
        assert "error: size 1 -> 2: changed while stage make was running" in said and "Traceback" not in said
        assert not (folder / "dvc.lock").exists()
        # What it says to do with the results: they are of size 1.
        (folder / "params.yaml").write_text("size: 1\n", encoding="utf-8")
        dvc.commit("make", force=True)
        assert dvc.status() == {} and (folder / "made").read_text() == "1"
        assert "size: 1" in (folder / "dvc.lock").read_text()
