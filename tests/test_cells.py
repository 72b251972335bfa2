"""A study's cells without DVC: finished ones are kept, an interrupted one goes on, and they compare."""

import shutil

from tests.pipeline_repo import Repo

CELLS = ("python", "-m", "scripts.cells", "study", "--sizes", "100", "0.12k", "--replicates", "1")


def test_cells(repo: Repo) -> None:
    study = repo.path / "study"
    small, large = study / "100-0", study / "0.12k-0"
    # Stopped by a fault half-way: the second cell asks for more rows than there are.
    result = repo.run(*CELLS[:6], "9M", "--replicates", "1", ok=False)
    assert result.returncode == 1 and "9M-0: stages.mix failed" in result.stderr
    before = (small / "metrics" / "evaluate.json").stat().st_mtime_ns
    printed = repo.run(*CELLS).stdout
    assert "100-0: finished" in printed and "0.12k-0 ..." in printed
    assert (small / "metrics" / "evaluate.json").stat().st_mtime_ns == before
    assert (large / "models" / "adapter").is_dir() and not (large / "data" / "mix.parquet").exists()
    # The first cell is the repository's own run.
    assert (small / "data/answers/evaluate.jsonl").read_bytes() == (
        repo.path / "data/answers/evaluate.jsonl"
    ).read_bytes()
    assert "finished" in repo.run(*CELLS).stdout.splitlines()[-1]
    text = repo.run("python", "-m", "stages.compare", "study/100-0", "study/0.12k-0").stdout
    assert "| data.size 100 | study/100-0 | " in text and "| data.size 0.12k | study/0.12k-0 | " in text

    # Other params are another study: nothing of the old one is taken for theirs.
    changed = repo.run(*CELLS[:6], "--set", "train.budget=3 steps", "--replicates", "1").stdout
    assert "100-0 ..." in changed and '"budget": "3 steps"' in (small / "params.yaml").read_text()
    fault = repo.run(*CELLS, "--set", "train.bugdet=3 steps", ok=False)
    assert fault.stderr == "error: --set train.bugdet: params.yaml has no such param. Is it misspelt?\n"
    shutil.rmtree(repo.path / "data" / "holdout")
    assert repo.run(*CELLS, ok=False).stderr.startswith("error: data/holdout: no such folder.")
