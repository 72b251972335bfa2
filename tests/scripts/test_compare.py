"""scripts.compare in a real repository: revisions, experiments, folders and the workspace."""

import json
import shutil
from pathlib import Path

from scripts.compare import load
from tests.pipeline_repo import Repo


def compare(repo: Repo, *revisions: str) -> str:
    return repo.run("python", "-m", "scripts.compare", *revisions).stdout


def fault(repo: Repo, *revisions: str) -> str:
    result = repo.run("python", "-m", "scripts.compare", *revisions, ok=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    return result.stderr


def test_revisions_experiments_folders_and_the_workspace(repo: Repo, tmp_path: Path) -> None:
    # Up to evaluate: what is compared needs no plots.
    repo.dvc("exp", "run", "--name", "reseeded", "-S", "train.seed=7", "-S", "data.seed=7", "evaluate")
    repo.dvc("exp", "run", "--name", "longer", "-S", "train.budget=3 steps", "evaluate")
    kept = tmp_path / "kept"
    for name in ("params.yaml", "metrics", "data/answers"):  # of the last run, which is the workspace's
        source, target = repo.path / name, kept / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    text = compare(repo, "main", "reseeded", "longer", "workspace", str(kept))
    # Two of the first configuration, and the other one, which is in the workspace and in the folder too.
    assert "| train.budget 2 steps | main, reseeded | " in text
    assert "| train.budget 3 steps | longer | " in text
    assert all(f"Not a replicate: {name} has the params and seeds" in text for name in ("workspace", kept))
    assert "nothing can be said" in text and "Warning" not in text
    assert "| recipe | nll |" in text and "| question | chrf |" in text
    assert repo.git("stash", "list") == "" and "3 steps" in (repo.path / "params.yaml").read_text()

    assert "name two results at least" in fault(repo, "main", "main")
    assert "nowhere: no such revision, experiment or folder" in fault(repo, "main", "nowhere")
    shutil.rmtree(kept / "data")
    assert "evaluate.jsonl: no such file" in fault(repo, "main", str(kept))
    shutil.rmtree(repo.path / ".dvc" / "cache")
    assert "main: its data/answers/evaluate.jsonl cannot be read" in fault(repo, "main", "longer")


def test_an_answer_may_hold_any_line_separator(tmp_path: Path) -> None:
    """Answers are written with such characters as they are; only a line feed ends a line of JSON Lines."""
    answers = [{"id": "a", "prediction": "one\u2028two\u2029three\u0085four\x0bfive\nsix"}, {"id": "b"}]
    for name, text in {
        "params.yaml": "{}",
        "metrics/evaluate.json": "{}",
        "metrics/train.json": "{}",
        "data/answers/evaluate.jsonl": "".join(
            json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers
        ),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert load(str(tmp_path)).answers == answers
