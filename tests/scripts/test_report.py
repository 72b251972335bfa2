"""scripts/report.sh in real clones that have no cache, as the job on a pull request runs it."""

import re
from pathlib import Path

import pytest

from tests.pipeline_repo import ROOT, Repo

UP_TO_DATE = "dvc.lock is up to date"
BEHIND = "dvc.lock is behind"


def clone_of_two_branches(repo: Repo, path: Path) -> Repo:
    """Clone a repository with a branch `bigger` on which the pipeline was run with 300 rows."""
    repo.git("switch", "--quiet", "--create", "bigger")
    repo.set_params({"data.size": 300})
    repo.dvc("repro")
    repo.commit("300 rows")
    return repo.clone(path)


def report(repo: Repo, *arguments: str) -> str:
    return repo.run("scripts/report.sh", *arguments).stdout


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_branch_whose_params_and_metrics_changed(repo: Repo, tmp_path: Path) -> None:
    clone = clone_of_two_branches(repo, tmp_path / "clone")
    assert not (clone.path / ".dvc" / "cache").exists()
    text = report(clone, "origin/main")
    rows = [cells(line) for line in text.splitlines() if line.startswith("|")]
    assert ["params.yaml", "data.size", "100", "300"] in rows
    assert ["metrics/mix.json", "rows", "100", "300", "200"] in rows
    results, _, cost = text.partition("<details>")
    assert "seconds" in cost and "seconds" not in results
    assert UP_TO_DATE in text and BEHIND not in text
    assert clone.git("status", "--porcelain") == ""

    params = clone.path / "params.yaml"
    params.write_text(params.read_text() + "# A remark.\n")
    assert UP_TO_DATE in report(clone, "origin/main")
    clone.set_params({"train.budget": "5 steps"})
    text = report(clone, "origin/main")
    (line,) = [line for line in text.splitlines() if BEHIND in line]
    assert "`dvc repro` would run train evaluate plot and what" in line
    assert UP_TO_DATE not in text and "| train.budget" in text

    text = report(clone, "origin/main", "origin/bigger")  # not the workspace, whose train.budget differs
    assert "| data.size" in text and "train.budget" not in text and "dvc.lock" not in text


def test_the_same_revision_has_no_changes(built: Repo, tmp_path: Path) -> None:
    clone = built.clone(tmp_path / "clone")
    text = report(clone, "main")
    assert text.count("No changes.") == 3 and UP_TO_DATE in text
    with (clone.path / "sft" / "plotting" / "pipeline.py").open("a") as file:
        file.write("# A remark.\n")
    assert "`dvc repro` would run plot and what follows" in report(clone, "main")


@pytest.mark.parametrize("arguments", [("nowhere",), ("main", "nowhere")])
def test_an_unknown_revision_is_an_error(built: Repo, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = built.clone(tmp_path / "clone").run("scripts/report.sh", *arguments, ok=False)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: nowhere: no such revision") and "git fetch" in result.stderr


def test_the_job_runs_the_script() -> None:
    text = (ROOT / ".github/workflows/report.yml").read_text()
    assert 'scripts/report.sh "origin/${{ github.base_ref }}"' in text


def test_a_task_s_scores_are_no_cost_whatever_its_name(tmp_path: Path) -> None:
    """By the script's own pattern, on lines as DVC prints them: the fold holds what tells of the run only."""
    script = (ROOT / "scripts" / "report.sh").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"^cost='(.*)'$", script, re.MULTILINE)
    row = "| metrics/evaluate.json | {} | 1 | 2 | 1 |".format
    for name in (
        "device_help.rouge1.mean",
        "seconds_quiz.nll.mean",
        "versions2.average",
        "recipe.mean_tokens",
    ):
        assert not re.search(pattern, row(name)), name
    for name in (
        "seconds.load",
        "speed.recipe.tokens_per_second",
        "device",
        "versions.torch",
        "peak_memory_gib",
    ):
        assert re.search(pattern, row(name)), name
