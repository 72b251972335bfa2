"""The stage check: a param at fault stops the pipeline before DVC deletes anything."""

from pathlib import Path
from typing import Any

import pytest

from stages.check import CHECKED
from stages.paths import PARAMS_CHECKED
from tests.pipeline_repo import Repo


def outputs(repo: Repo) -> set[Path]:
    """Return the files that the stages have made, but what check writes."""
    return {repo.path / path for stage in repo.lock().values() for path in stage} - {
        repo.path / PARAMS_CHECKED
    }


def test_a_param_at_fault_costs_no_output(repo: Repo) -> None:
    """By `dvc repro` and `dvc exp run`; then the good param brings all back, and nothing has run again."""
    made, lock = outputs(repo), repo.lock()
    assert made and all(path.exists() for path in made)
    repo.set_params({"data.size": "300kk"})
    for command in (["repro"], ["exp", "run", "--set-param", "train.warmup_steps=-1"]):
        result = repo.run("dvc", *command, ok=False)
        assert result.returncode != 0 and "Running stage 'check'" in result.stdout
        assert "error: params.yaml: data.size: '300kk' is not a positive whole number" in result.stderr
        assert "Running stage 'mix'" not in result.stdout and "Traceback" not in result.stderr
        assert all(path.exists() for path in made) and repo.lock() == lock

    repo.git("checkout", "params.yaml")
    output = repo.dvc_here("repro")
    assert "Stage 'check' is cached - skipping run" in output and "Running stage" not in output
    assert repo.git("status", "--porcelain") == "" and repo.lock() == lock


def test_a_queued_experiment_with_a_param_at_fault_makes_nothing(repo: Repo) -> None:
    result = repo.run("dvc", "exp", "run", "--temp", "--set-param", "train.budget=2 stepps", ok=False)
    assert result.returncode != 0 and "Running stage 'train'" not in result.stdout
    assert "train.budget: '2 stepps' is not an amount and a unit" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("param", "value", "message"),
    [
        ("data.size", "300kk", "params.yaml: data.size: '300kk' is not a positive whole number"),
        ("data.base", [], "params.yaml: data.base: the list is empty"),
        ("data.extra", ["mine.jsonl"], "mine.jsonl: not under data/raw/"),
        ("data.extra", ["data/raw/typo.jsonl"], "data/raw/typo.jsonl: no such file. If it is tracked"),
        ("data.extra", ["hf://datasets/mlabonne"], "'hf://datasets/mlabonne': not an address of data"),
        ("data.weights", "even", "params.yaml: data.weights: "),
        ("data.filters.near_duplicates", 0.1, "params.yaml: data.filters.near_duplicates: 0.1 is below"),
        ("tasks", {}, "params.yaml: tasks: there is none"),
        ("tasks.recipe.metrics", ["rouge3"], "params.yaml: tasks.recipe.metrics: 'rouge3' is no metric"),
        ("model.reference", "no-model", "params.yaml: model.reference: 'no-model' is no model"),
        ("model.dtype", "float8", "params.yaml: model.dtype: 'float8' is not one of"),
        ("train.budget", "2 stepps", "params.yaml: train.budget: '2 stepps' is not an amount and a unit"),
        ("train.micro_batch", 3, "params.yaml: train.micro_batch: 3 does not divide"),
        ("train.lora.r", 0, "params.yaml: train.lora.r: 0 is not"),
        ("evaluate.temperature", -1, "params.yaml: evaluate.temperature: -1.0 is below 0"),
        ("plot.dpi", "high", "params.yaml: plot.dpi: 'high' is not a positive whole number"),
    ],
)
def test_a_fault_in_the_params_of_any_stage(clone: Repo, param: str, value: Any, message: str) -> None:
    clone.set_params({param: value})
    said = clone.stage("check")
    assert isinstance(said, str) and said.startswith(f"error: {message}"), said
    assert not (clone.path / PARAMS_CHECKED).exists()


def test_a_tracker_that_there_is_not(clone: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told before standardize and mix, though it is no param; what the stage writes has none of it."""
    monkeypatch.setenv("SFT_REPORT_TO", "tensorboard,tensorbord")
    said = clone.stage("check")
    assert said == (
        "error: SFT_REPORT_TO: 'tensorbord' is no tracker. There are tensorboard, mlflow, wandb, dvclive."
    )
    assert not (clone.path / PARAMS_CHECKED).exists()
    monkeypatch.setenv("SFT_REPORT_TO", "tensorboard")
    assert clone.stage("check") is None
    assert (clone.path / PARAMS_CHECKED).read_text() == CHECKED
    assert not (clone.path / ".dvc/tmp/trackers").exists()


def test_data_that_dvc_tracks_may_be_absent(clone: Repo) -> None:
    (clone.path / "data/raw/many.dvc").write_text("outs:\n- path: many\n")
    clone.set_params({"data.extra": ["data/raw/many/mine.jsonl"]})
    assert clone.stage("check") is None
    assert (clone.path / PARAMS_CHECKED).read_text() == CHECKED


@pytest.fixture(scope="module")
def cloned(built: Repo, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    return built.clone(tmp_path_factory.mktemp("check") / "clone")


@pytest.fixture
def clone(cloned: Repo) -> Repo:
    """Return a clone that has nothing but what is committed: the params, and no data."""
    cloned.git("reset", "--quiet", "--hard")
    cloned.git("clean", "--quiet", "--force", "-dx")
    return cloned
