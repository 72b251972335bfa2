"""baseline and evaluate go on from what they had finished when they were killed."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline_repo import Repo

OF_EVALUATE = [
    "data/answers/evaluate.jsonl",
    "scores/evaluate.csv",
    "metrics/evaluate.json",
    "plots/gain.csv",
]
PROVENANCE = "provenance/evaluate.json"


def finished(repo: Repo) -> list[Path]:
    return list((repo.path / ".dvc/tmp/work/evaluate").glob("*/finished.jsonl"))


def killed(repo: Repo, lines: int) -> bytes:
    """Start evaluate, kill it as soon as it has kept some lines, and return what is kept."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.evaluate", "adapter"],
        cwd=repo.path,
        env=repo.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        kept = [path.read_bytes() for path in finished(repo) if path.exists()]
        if kept and kept[0].count(b"\n") >= lines:
            process.kill()
        time.sleep(0.001)
    process.wait()
    (path,) = finished(repo)
    return path.read_bytes()


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bytes(
    repo: Repo, capfd: pytest.CaptureFixture
) -> None:
    expected = {path: (repo.path / path).read_bytes() for path in OF_EVALUATE}
    before = repo.json(PROVENANCE)
    assert before["kept"] == {"answers": 0, "likelihoods": 0}
    for path in [*OF_EVALUATE, PROVENANCE]:
        (repo.path / path).unlink()

    # Until the next run begins, DVC's own run of the stage leaves what it has done.
    shutil.rmtree(repo.path / ".dvc/tmp/work")

    # Four tasks have a batch of likelihoods each, then one of answers each: two examples in two runs.
    kept = killed(repo, lines=5)
    assert not (repo.path / "metrics/evaluate.json").exists()
    (file,) = finished(repo)
    answers = 4 * (kept.count(b"\n") - 4)
    file.write_bytes(kept + b'0123456789abcdef ["answers", ')  # as if killed while it wrote

    capfd.readouterr()
    assert repo.stage("evaluate", "adapter") is None
    told = capfd.readouterr()
    assert f"going on: {answers} of 16 answers and 12 of 12 likelihoods are there" in told.out
    assert "damaged" not in told.err
    assert {path: (repo.path / path).read_bytes() for path in OF_EVALUATE} == expected
    after = repo.json(PROVENANCE)
    assert after["kept"] == {"answers": answers, "likelihoods": 12}
    assert {**after, "seconds": 0, "kept": 0}.keys() == before.keys()
    took = {name: seconds for name, seconds in after["seconds"].items() if name.startswith("answer_")}
    assert len(took) == 4 and all(seconds > 0 for seconds in took.values())
    assert finished(repo) == [] and repo.git("status", "--porcelain") == f" M {PROVENANCE}\n"
