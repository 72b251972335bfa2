"""Two branches that have both run: dvc.lock and results are merged, nothing that either ran runs again."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from dvc.repo import Repo as DvcRepo

from scripts.merge_lock import merge_lock
from sft.core.errors import ParamError, UserError
from stages import check
from tests import toy_pipeline
from tests.pipeline_repo import ROOT, Repo
from tests.toy_pipeline import Toy

Change = Callable[[Toy], None]
Ran = Callable[..., None]
CHECK = check.check_params


@pytest.fixture(autouse=True)
def params_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the few params of the toy pipeline checked as its own stage does: it finds no fault."""
    monkeypatch.setattr("stages.check.check_params", lambda values: None)


def rate(value: float) -> Change:
    return lambda toy: toy.set_params({"train.learning_rate": value})


def dpi(toy: Toy) -> None:
    toy.set_params({"plot.dpi": 99})


def examples(toy: Toy) -> None:
    toy.set_params({"evaluate.examples": 5})


def size(toy: Toy) -> None:
    toy.set_params({"data.size": 300})


def code(toy: Toy) -> None:
    toy.write("stages/train.py", toy.read("stages/train.py") + "# Changed.\n")


@pytest.fixture
def ran(toy: Toy) -> Ran:
    """Return what makes a branch of main on which something was changed, and the pipeline ran."""

    def branch(name: str, change: Change, **env: str) -> None:
        toy.git("switch", "--quiet", "--create", name, "main")
        with toy.here():
            toy.check_out()
        change(toy)
        toy.repro(**env)
        toy.commit(name)

    return branch


def in_conflict(toy: Toy, *command: str) -> list[str]:
    result = toy.run("git", *command, ok=False)
    assert result.returncode, result.stdout
    return toy.git("diff", "--name-only", "--diff-filter=U").split()


def merged(toy: Toy) -> str:
    toy.ran()
    with toy.here():
        text = "\n".join(merge_lock())
    assert toy.ran() == []  # it runs nothing itself
    assert not toy.git("diff", "--name-only", "--diff-filter=U")
    assert toy_pipeline.metrics(toy).keys() == {"mix.json", "train.json", "evaluate.json"}  # no markers
    assert "<<<<" not in toy.read("dvc.lock")
    return text


@pytest.mark.parametrize(
    ("ours", "theirs", "left"),
    [
        (dpi, rate(0.2), ["plot"]),
        (rate(0.2), examples, ["evaluate", "plot"]),
        (size, rate(0.2), ["train", "evaluate", "plot"]),
        (code, dpi, []),  # the changed code makes the same adapter, so the other side's plot is right
    ],
    ids=["dpi-rate", "rate-examples", "data-rate", "code-dpi"],
)
def test_what_either_side_has_run_does_not_run_again(
    toy: Toy, ran: Ran, ours: Change, theirs: Change, left: list[str]
) -> None:
    ran("theirs", theirs)
    ran("ours", ours)
    assert "dvc.lock" in in_conflict(toy, "merge", "theirs")
    text = merged(toy)
    named = f"Neither side has run with what is merged: {', '.join(left)}.".replace(
        "train", "train (2 min 5 s)"
    )
    assert named in text or (not left and "Neither" not in text)
    toy.git("commit", "--quiet", "--no-edit")
    with toy.here(), DvcRepo() as dvc:
        assert set(dvc.status()) <= set(left)
    # What is left follows from the merge: neither side's results are of these params.
    assert toy.repro() == left and toy.clean()


def test_the_same_change_on_both_sides_takes_the_data_that_is_here(
    toy: Toy, ran: Ran, tmp_path: Path
) -> None:
    ran("ours", rate(0.2))
    other = Toy(toy.clone(tmp_path / "other").path, toy.wheels)
    other.git("switch", "--quiet", "--create", "theirs", "origin/main")
    rate(0.2)(other)
    other.repro(TOY_MACHINE="other")
    other.commit("theirs")
    toy.git("fetch", "--quiet", str(other.path), "theirs:theirs")
    # Whichever side is the current branch: this machine's adapter is in the cache, the other's is not.
    toy.git("switch", "--quiet", "theirs")
    in_conflict(toy, "merge", "ours")
    assert "Of the other side" in merged(toy)
    assert toy.clean() and "here" in toy.read("models/adapter/weights")
    toy.git("commit", "--quiet", "--no-edit")

    # In a clone without any data, the results in Git fit the lock, and what is to be fetched is said.
    bare = Toy(toy.clone(tmp_path / "bare").path, toy.wheels)
    bare.git("reset", "--quiet", "--hard", "HEAD^1")
    in_conflict(bare, "merge", "origin/ours")
    assert (
        "In no cache here: data/params-checked.txt, data/mix.txt, models/adapter, data/answers.txt."
        in merged(bare)
    )
    assert bare.git("show", "HEAD:dvc.lock") == bare.read("dvc.lock")


def test_a_rebase_and_a_cherry_pick(toy: Toy, ran: Ran) -> None:
    ran("theirs", rate(0.2))
    ran("ours", dpi)
    toy.git("branch", "again")
    in_conflict(toy, "rebase", "theirs")
    assert merged(toy).endswith("Go on with: git rebase --continue")
    toy.run("git", "-c", "core.editor=true", "rebase", "--continue")
    assert toy.git("log", "--format=%s").split() == ["ours", "theirs", "run", "pipeline"]
    assert toy.changed_stages() == {"plot"}
    toy.git("switch", "--quiet", "--detach", "again")
    in_conflict(toy, "cherry-pick", "theirs")
    assert merged(toy).endswith("Go on with: git cherry-pick --continue")
    toy.run("git", "-c", "core.editor=true", "cherry-pick", "--continue")
    assert toy.changed_stages() == {"plot"}


def test_conflict_markers_of_a_clone_without_the_attribute_and_a_run_from_before(toy: Toy, ran: Ran) -> None:
    toy.write(".gitattributes", "")
    toy.commit("before the attribute")
    ran("tried", lambda toy: toy.set_params({"data.size": 300, "train.learning_rate": 0.2}))
    ran("theirs", rate(0.2))
    ran("ours", size)
    in_conflict(toy, "merge", "theirs")
    assert "<<<<" in toy.read("dvc.lock") and "<<<<" in toy.read("metrics/train.json")
    assert "Of an earlier run here: the results of check, train, evaluate, plot." in merged(toy)
    assert toy.clean()
    assert toy_pipeline.metrics(toy)["train.json"] == json.loads(toy.git("show", "tried:metrics/train.json"))


def test_files_of_the_user_s_own_are_said_first(toy: Toy, ran: Ran) -> None:
    ran("theirs", rate(0.2))
    ran("ours", rate(0.3))
    in_conflict(toy, "merge", "theirs")
    with toy.here(), pytest.raises(UserError, match=r"^params\.yaml: in conflict"):
        merge_lock()
    toy.git("checkout", "--theirs", "params.yaml")
    toy.git("add", "params.yaml")
    assert "Of the other side" in merged(toy)
    assert toy.clean()


def test_after_a_merge_that_was_committed_with_one_side_s_lock(toy: Toy, ran: Ran) -> None:
    ran("theirs", rate(0.2))
    ran("ours", dpi)
    in_conflict(toy, "merge", "theirs")  # Git has kept ours
    toy.git("commit", "--quiet", "--all", "--no-edit")
    assert "train" in toy.changed_stages()
    assert merged(toy).endswith("are added: look at them, and commit.")
    assert toy.changed_stages() == {"plot"}
    # What is not committed is not lost, and what has run since the merge stays.
    with toy.here(), pytest.raises(UserError, match=r"^dvc\.lock: changed since the merge"):
        merge_lock()
    assert toy.repro() == ["plot"]
    toy.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    merged(toy)
    assert toy.clean() and not toy.git("status", "--short")


def test_an_output_changed_by_hand_is_left_and_said(toy: Toy, ran: Ran) -> None:
    ran("theirs", rate(0.2))
    ran("ours", dpi)
    in_conflict(toy, "merge", "theirs")
    (toy.path / "data/answers.txt").unlink()
    toy.write("data/answers.txt", "Mine.")
    assert "Not touched, for they were changed by hand and no cache has them so: data/answers.txt." in merged(
        toy
    )
    assert toy.read("data/answers.txt") == "Mine."


def test_params_that_no_side_has_checked_together(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the project's own pipeline: one side runs standardize again, the other plot."""
    monkeypatch.setattr("stages.check.check_params", CHECK)
    shutil.copy(ROOT / ".gitattributes", repo.path)
    repo.commit("attributes")
    for branch, change in (("theirs", {"plot.dpi": 41}), ("ours", {"data.max_rejects": 0.03})):
        repo.git("switch", "--quiet", "--create", branch, "main")
        repo.set_params(change)
        repo.dvc_here("repro")
        repo.commit(branch)
    assert repo.run("git", "merge", "theirs", ok=False).returncode
    # What a training would report to is none of a merge's faults.
    environment = repo.env | {"SFT_REPORT_TO": "no-tracker"}
    with contextlib.chdir(repo.path), mock.patch.dict(os.environ, environment, clear=True):
        capsys.readouterr()
        text = "\n".join(merge_lock())
        assert not capsys.readouterr().out
        assert "Done here: check. The merged params are in order." in text and "Neither side" not in text
        with DvcRepo() as dvc:
            assert dvc.status() == {}
        repo.git("commit", "--quiet", "--no-edit")
        assert not repo.git("status", "--short")
        # A fault of the merged params is said before anything is taken.
        before = repo.lock()
        repo.set_params({"train.learning_rate": -1})
        repo.git("commit", "--quiet", "--all", "--amend", "--no-edit")
        with pytest.raises(ParamError, match=r"train\.learning_rate"):
            merge_lock()
        assert repo.lock() == before and not repo.git("status", "--short")


def test_no_merge(toy: Toy) -> None:
    with toy.here(), pytest.raises(UserError, match="no merge"):
        merge_lock()
