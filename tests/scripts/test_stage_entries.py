"""What the scripts read and write of DVC's lock and run cache, and DVC with them."""

import json
from pathlib import Path

import pytest

from scripts import last_run, params_change
from scripts.lock_entries import locked_entries, outputs, same_inputs
from scripts.stage_entries import earlier_run, opened
from sft.core.errors import UserError
from tests.toy_pipeline import STAGES, Toy

LOOK_AT = "changed in this version: see dvc/stage/{} and mend scripts/stage_entries.py"


def test_the_entries_of_a_pipeline_that_has_run(toy: Toy) -> None:
    with toy.here(), opened() as stages:
        lock, made = locked_entries(), {}
        assert stages.names == list(STAGES) == list(lock)
        for name in stages.names:
            inputs = stages.inputs(name, made)
            assert inputs and same_inputs(lock[name], inputs), LOOK_AT.format("serialize.py")
            # DVC has saved this run under the key of these inputs.
            assert earlier_run(stages, name, inputs) == lock[name], LOOK_AT.format(
                "cache.py (_get_cache_hash)"
            )
            assert not stages.absent(name, lock[name]) and not stages.damaged(name, lock[name])
            made |= outputs(lock[name])
        assert stages.inputs("plot", {}) is None
        assert stages.in_git("train") == ["metrics/train.json", "provenance/train.json"]


def test_what_is_written_is_as_dvc_writes_it(toy: Toy) -> None:
    before = toy.read("dvc.lock")
    with toy.here(), opened() as stages:
        lock = locked_entries()
        (toy.path / "dvc.lock").unlink()
        stages.write(lock)
    assert toy.read("dvc.lock") == before, LOOK_AT.format("../utils/serialize/_yaml.py")


def test_a_missing_dep_and_a_folder_that_is_no_repository(toy: Toy, tmp_path: Path) -> None:
    (toy.path / "stages/check.py").unlink()
    with toy.here(), pytest.raises(UserError, match=r"^stages/check\.py: no such file"), opened() as stages:
        stages.inputs("check", {})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="no DVC repository"):
        patch.chdir(tmp_path)
        with opened():
            pass


def test_changed_params_as_a_command() -> None:
    old = "data: {size: 100, base: [a]}\nmodel: {name: x}\n"
    new = 'data: {size: 300k, base: [a, "b c"]}\nmodel: {name: x}\n'
    assert ("data.size", 100, "300k") in params_change.changed(old, new)
    assert params_change.command("mine", "0" * 40, old, new, "--temp ") == (
        'dvc exp run --temp -n mine -S \'data.size="300k"\' -S \'data.base=["a", "b c"]\''
    )
    assert params_change.command("mine", "0" * 40, old, old) == "dvc exp run -n mine"
    whole = "git show 000000000:params.yaml > params.yaml && dvc exp run -n mine"
    assert params_change.command("mine", "0" * 40, old, new + "tasks: {mine: 1}\n") == whole


def test_the_time_that_stages_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "provenance").mkdir()
    (tmp_path / "provenance/train.json").write_text(json.dumps({"seconds": {"load": 1.5, "train": 200}}))
    (tmp_path / "provenance/mix.json").write_text("{")
    assert last_run.with_seconds(["mix", "train", "plot"]) == "mix, train (3 min 22 s), plot"
    assert [last_run.duration(of) for of in (0.2, 59, 7500)] == ["under 1 s", "59 s", "2 h 5 min"]


def test_a_lock_that_dvc_cannot_read(toy: Toy) -> None:
    for text, way_out in (
        (": {", "half-written: make rescue"),
        ("<<<<<<< HEAD\n", "in conflict: make merge-lock"),
    ):
        toy.write("dvc.lock", text)
        with toy.here(), pytest.raises(UserError, match=rf"\. dvc\.lock is {way_out}$"), opened():
            pass
