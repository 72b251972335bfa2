"""scripts.compare in a real repository: revisions, experiments, folders and the workspace, from Git alone."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from tests.imports import ROOT
from tests.pipeline_repo import Repo
from tests.report_repo import TASKS, scores, write


def compare(repo: Repo, *revisions: str) -> str:
    return repo.script("compare", *revisions).stdout


def fault(repo: Repo, *revisions: str) -> str:
    result = repo.script("compare", *revisions, ok=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    return result.stderr


def test_revisions_experiments_folders_and_the_workspace(repo: Repo, tmp_path: Path) -> None:
    # Up to evaluate: what is compared needs no plots.
    repo.dvc_here("exp", "run", "--name", "reseeded", "-S", "train.seed=7", "-S", "data.seed=7", "evaluate")
    repo.dvc_here("exp", "run", "--name", "longer", "-S", "train.budget=3 steps", "evaluate")
    kept = tmp_path / "kept"
    for name in ("params.yaml", "dvc.lock", "scores", "provenance"):  # of the last run, the workspace's
        source, target = repo.path / name, kept / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    # Nothing that DVC keeps is needed.
    shutil.rmtree(repo.path / ".dvc" / "cache")
    shutil.rmtree(repo.path / "data" / "answers")
    text = compare(repo, "main", "reseeded", "longer", "workspace", str(kept))
    # Two of the first configuration, and the other one, which is in the workspace and in the folder too.
    assert "| train.budget 2 steps | main, reseeded | " in text
    assert "| train.budget 3 steps | longer | " in text
    assert all(f"Not a replicate: {name} has the params and seeds" in text for name in ("workspace", kept))
    assert "not judged" in text and "Warning" not in text and "Not checked" not in text
    assert "| recipe | bits_per_byte |" in text and "| question | chrf |" in text
    assert "3 steps" in (repo.path / "params.yaml").read_text()
    assert "name two results at least" in fault(repo, "main", "main")


LOCK = """
schema: '2.0'
stages:
  standardize:
    outs:
    - {path: data/standardized/base, md5: BASE}
    - {path: data/standardized/rejects.jsonl, md5: REJECTS}
    - {path: metrics/standardize.json, md5: SUMMARY}
    - {path: provenance/standardize.json, md5: SECONDS}
  train:
    deps:
    - {path: data/mix, md5: OF_THE_SEED}
    - {path: sft/core, md5: CORE}
"""
PARAMS = "data: {size: 100, seed: 1}\ntrain: {seed: 1, learning_rate: RATE}\n"
TRAINED = {"rows_seen": 480, "distinct_rows_seen": 480, "tokens_seen": 9_000, "epochs": 1.0}
RAN = {"device": "cpu", "versions": {"torch": "2"}}


@pytest.fixture
def made(tmp_path: Path) -> Repo:
    """Make a repository of results alone, a branch each: no data, no DVC, nothing that ran."""
    made = Repo(tmp_path / "made", tmp_path, {"PYTHONPATH": str(ROOT)})
    made.path.mkdir()
    made.git("init", "--quiet", "--initial-branch", "old")
    write(made, "params.yaml", PARAMS.replace("RATE", "0.1"))
    made.commit()
    made.git("switch", "--quiet", "--create", "trunk")
    write(made, "dvc.lock", LOCK)
    write(made, "scores/baseline.csv", scores(1))
    write(made, "provenance/train.json", json.dumps(TRAINED | RAN))
    write(made, "provenance/evaluate.json", json.dumps(RAN))
    gained = {f"{task}_bits": -0.5 for task in TASKS}
    for name, start, text in (
        ("trunk", None, scores(2)),
        ("better", "trunk", scores(3, **gained)),
        ("worse", "trunk", scores(4, definition_rouge1=-0.15)),
        ("others", "trunk", scores(5, prefix="new-")),
        ("damaged", "trunk", scores(2).replace("recipe3,1,0.", "recipe3,1,zero", 1)),
    ):
        if start:
            made.git("switch", "--quiet", "--create", name, start)
            write(made, "params.yaml", PARAMS.replace("RATE", f"0.{len(name)}"))
        write(made, "scores/evaluate.csv", text)
        made.commit(name)
    made.git("switch", "--quiet", "trunk")
    return made


def test_the_findings(made: Repo) -> None:
    text = compare(made, "trunk", "better", "worse")
    rows = {tuple(line.split(" | ")[:3]): line for line in text.splitlines() if line.startswith("| ")}
    assert rows["| better", "average", "bits_per_byte"].endswith("| better |")
    assert rows["| worse", "definition", "rouge1"].endswith("| worse |")
    assert "Warning" not in text and "Not checked" not in text


def test_faults_are_sentences(made: Repo) -> None:
    assert "nowhere: no such revision" in fault(made, "trunk", "nowhere")
    assert "old: it has no provenance/train.json." in fault(made, "trunk", "old")
    assert "Run its params by today's code" in fault(made, "old", "trunk")
    different = fault(made, "trunk", "others")
    assert "trunk and others were not scored on the same examples of recipe" in different
    assert "scores/evaluate.csv of damaged: damaged" in fault(made, "trunk", "damaged")
    for path, text, message in (
        ("dvc.lock", "stages: {}", "workspace: its dvc.lock is damaged: it has no 'standardize'"),
        ("provenance/train.json", json.dumps(RAN), "train.json is damaged: it does not say rows_seen"),
        ("provenance/evaluate.json", "{", "evaluate.json is damaged: Expecting"),
        ("params.yaml", "- a list", "params.yaml of workspace: expected a mapping"),
    ):
        write(made, path, text)
        assert message in fault(made, "trunk", "workspace")
        made.git("restore", path)


def test_other_data_and_other_code_by_the_lock(made: Repo) -> None:
    write(made, "params.yaml", PARAMS.replace("RATE", "0.1").replace("seed: 1", "seed: 2"))
    # The mix is the seed's; what was rejected, and how long it took, is read by nobody.
    lock = LOCK.replace("OF_THE_SEED", "ANOTHER")
    for name in ("REJECTS", "SUMMARY", "SECONDS"):
        lock = lock.replace(name, "OTHERS")
    write(made, "dvc.lock", lock)
    found = compare(made, "trunk", "workspace")
    assert "| this configuration | trunk, workspace |" in found and "Warning" not in found
    write(made, "dvc.lock", LOCK.replace("BASE", "OTHER"))
    found = compare(made, "trunk", "workspace")
    assert "Other data: these have the same params" in found and "| standardized data " in found
    write(made, "dvc.lock", LOCK.replace("CORE", "OTHER"))
    found = compare(made, "trunk", "workspace")
    assert "were not made by the same code: sft/core differ" in found and "Other data" not in found
    (made.path / "dvc.lock").unlink()
    found = compare(made, "trunk", "workspace")
    assert "Not checked, for what they were made from is not recorded: whether the same" in found


def test_an_experiment_by_its_name(made: Repo) -> None:
    head, *commits = (made.git("rev-parse", name).strip() for name in ("trunk", "better", "worse"))
    made.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/tried", commits[0])
    assert "| tried | average | bits_per_byte | -0." in compare(made, "trunk", "tried")
    made.git("update-ref", f"refs/exps/{commits[0][:2]}/{commits[0][2:]}/tried", commits[1])
    assert "tried: there are 2 experiments of this name" in fault(made, "trunk", "tried")


def test_compressed_scores_of_a_published_study(made: Repo) -> None:
    run = made.path / "published" / "run"
    for name in ("params.yaml", "scores", "provenance"):
        source, target = made.path / name, run / name
        target.parent.mkdir(exist_ok=True, parents=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    packed = gzip.compress((run / "scores" / "evaluate.csv").read_bytes())
    (run / "scores" / "evaluate.csv").unlink()
    (run / "scores" / "evaluate.csv.gz").write_bytes(packed)
    assert "published/run" in compare(made, "better", "published/run")
    (run / "scores" / "evaluate.csv.gz").write_bytes(packed[:100])
    assert "evaluate.csv: cannot be read" in fault(made, "better", "published/run")
