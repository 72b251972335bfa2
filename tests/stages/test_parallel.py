"""Experiments at the same time: what they share stays whole, and each has the results that it has alone."""

import hashlib
import subprocess
from pathlib import Path

from tests import pipeline_repo
from tests.pipeline_repo import Repo

SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def outputs(repo: Repo, experiment: str) -> dict[str, dict[str, str]]:
    return pipeline_repo.outputs(repo.git("show", f"{repo.experiment(experiment)}:dvc.lock"))


def mix_of(repo: Repo, size: int) -> str:
    """Return the hash of a mix that is made here, with nothing beside it."""
    repo.set_params({"data.size": size})
    assert repo.stage("mix") is None
    return hashlib.md5((repo.path / "data/mix.parquet").read_bytes()).hexdigest()


def test_two_in_temporary_copies_with_an_empty_download_cache(repo: Repo, tmp_path: Path) -> None:
    """Both fetch and extract the same wheels, and write the same files into DVC's cache. Up to the mix."""
    repo.extra_env["SFT_CACHE"] = str(tmp_path / "downloads")
    # standardize runs in both, and gives what it gave: nothing of the data is unreadable.
    changes = {
        name: ("-S", f"data.max_rejects=0.0{n}", "-S", f"data.size={n}0") for n, name in ((3, "a"), (4, "b"))
    }
    commands = [["dvc", "exp", "run", "--temp", "-n", name, *of, "mix"] for name, of in changes.items()]
    running = [subprocess.Popen(command, cwd=repo.path, env=repo.env, **SILENT) for command in commands]
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    alone = repo.lock()
    a, b = (outputs(repo, name) for name in changes)
    for path in ("data/standardized/base.parquet", "data/standardized/extra.parquet"):
        assert a["standardize"][path] == b["standardize"][path] == alone["standardize"][path]
    assert a["mix"]["data/mix.parquet"] != b["mix"]["data/mix.parquet"]
    assert a["mix"]["data/mix.parquet"] == mix_of(repo, 30) and b["mix"]["data/mix.parquet"] == mix_of(
        repo, 40
    )
    assert not list((tmp_path / "downloads").rglob("*.partial"))
