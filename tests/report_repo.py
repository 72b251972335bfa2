"""A repository with a branch for everything that a pull request's report may say, and clones of it."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from stages.paths import METRICS_EVALUATE, SCORES_BASELINE, SCORES_EVALUATE
from tests.pipeline_repo import Repo

TASKS = ("recipe", "definition", "dialogue", "question")
PICTURE = "plots/gain.png"


def scores(seed: int, examples: int = 20, prefix: str = "", **gain: float) -> str:
    """Make a scores file; `gain` is by how much a task's `TASK_METRIC` differs from another seed's."""
    easy, noise = np.random.default_rng(0), np.random.default_rng(seed)
    columns = ["base_model", "task", "example", "run", "rouge1", "rouge2", "rougeL", "chrf", "format"]
    file = io.StringIO()
    writer = csv.DictWriter(file, [*columns, "finished", "tokens", "bits_per_byte"], lineterminator="\n")
    writer.writeheader()
    for task in TASKS:
        for number in range(examples):
            row = {"base_model": "0123456789ab", "task": task, "example": f"{prefix}{task}{number}"}
            rouge, bits = easy.uniform(0.2, 0.5), easy.uniform(1, 2)
            for run in (0, 1):
                of_run = rouge + gain.get(f"{task}_rouge1", 0) + noise.normal(0, 0.02)
                answer = dict.fromkeys(("rouge1", "rouge2", "rougeL", "chrf"), round(of_run, 6))
                own = {"format": int(noise.random() < 0.5)} if task == "recipe" else {}
                writer.writerow({**row, "run": run, "finished": 1, "tokens": 12, **answer, **own})
            of_text = bits + gain.get(f"{task}_bits", 0) + noise.normal(0, 0.02)
            writer.writerow({**row, "bits_per_byte": round(of_text, 6)})
    return file.getvalue()


def write(repo: Repo, path: str, text: str) -> None:
    (repo.path / path).parent.mkdir(exist_ok=True)
    (repo.path / path).write_text(text, encoding="utf-8")


def branch(repo: Repo, name: str, start: str, tuned: str, **params: object) -> None:
    """Commit a branch on which the pipeline seems to have run: `tuned` scores, with its lock up to date."""
    repo.git("switch", "--quiet", "--create", name, start)
    repo.set_params(params)
    write(repo, SCORES_EVALUATE, tuned)
    write(repo, PICTURE, f"not really a picture: {name}")
    write(repo, "provenance/train.json", json.dumps({"seconds": len(name), "versions": {"torch": "2.13.0"}}))
    metrics = repo.json(METRICS_EVALUATE)
    metrics["average"]["rouge1"] = 0.1 * len(name)
    write(repo, METRICS_EVALUATE, json.dumps(metrics))
    repo.dvc_here("commit", "--force")
    repo.commit(name)


def create(built: Repo, path: Path) -> Repo:
    """Make the repository in `path` from one whose pipeline has run."""
    repo = built.copy(path)
    repo.git("switch", "--quiet", "--create", "old")
    for path in (SCORES_EVALUATE, SCORES_BASELINE, PICTURE):
        (repo.path / path).unlink(missing_ok=True)
    repo.git("commit", "--quiet", "--all", "--allow-empty", "--message", "before there were scores")
    write(repo, SCORES_BASELINE, scores(1))
    branch(repo, "trunk", "old", scores(2, **{f"{task}_bits": -0.2 for task in TASKS}))
    gained = {f"{task}_bits": -0.2 for task in TASKS[1:]}
    better = scores(3, recipe_bits=-0.5, **gained)
    branch(repo, "better", "trunk", better, **{"train.learning_rate": 5e-4, "train.seed": 7})
    lost = scores(4, recipe_bits=-0.5, definition_rouge1=-0.15, **gained)
    branch(repo, "worse", "trunk", lost, **{"train.learning_rate": 1e-3})
    branch(repo, "others", "trunk", scores(5, prefix="new-"), **{"data.holdout.seed": 7})
    branch(repo, "damaged", "trunk", better.replace("recipe3,1,0.", "recipe3,1,zero", 1))
    repo.git("switch", "--quiet", "--create", "stale", "better")
    repo.set_params({"train.budget": "5 steps"})
    repo.commit("a param, and no run")
    repo.git("switch", "--quiet", "trunk")
    write(repo, "notes.txt", "after the branches")
    repo.commit("trunk goes on")
    return repo


def clone(origin: Repo, path: Path, name: str, *options: str) -> Repo:
    origin.git("clone", "--quiet", "--branch", name, *options, f"file://{origin.path}", str(path))
    assert not (path / ".dvc" / "cache").exists()
    return Repo(path, origin.wheels)
