"""What may be removed: of DVC's cache, of unfinished work, of downloads; in a small real repository."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import clean_cache
from scripts.cache_use import OBJECTS, CacheUse, cache_use, remove_unused
from sft.core.errors import UserError
from tests.pipeline_repo import Repo, from_cache, ran

# A file, a folder and a metric that Git has, all of them made from n.
PIPELINE = """
stages:
  make:
    cmd: python make.py
    params: [n]
    deps: [make.py]
    outs: [made.txt, folder]
    metrics: [metric.json: {cache: false}]
"""
MAKE = """
import pathlib
n = pathlib.Path("params.yaml").read_text().split()[1]
pathlib.Path("folder").mkdir(exist_ok=True)
for name in ("made.txt", "folder/file", "metric.json"):
    pathlib.Path(name).write_text(n if name == "metric.json" else f"{name} {n}")
"""

CLEANED = ("temporary", "downloads", "checkpoints")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Make a repository in which 1 and 2 are commits, 3 is an experiment, 4 is a stash, 5 was run only."""
    repo = Repo(tmp_path_factory.mktemp("history") / "repo", tmp_path_factory.mktemp("wheels"))
    repo.path.mkdir()
    repo.git("init", "--quiet", "--initial-branch", "main")
    repo.dvc_here("init", "--quiet")
    repo.dvc_here("config", "core.autostage", "true")
    (repo.path / "dvc.yaml").write_text(PIPELINE)
    (repo.path / "make.py").write_text(MAKE)
    run(repo, 1)
    repo.commit("one")
    repo.git("switch", "--quiet", "--create", "other")
    run(repo, 2)
    repo.commit("two")
    repo.git("tag", "two")
    repo.git("switch", "--quiet", "main")
    repo.git("branch", "--quiet", "--delete", "--force", "other")
    repo.dvc_here("exp", "run", "--quiet", "--temp", "--name", "third", "--set-param", "n=3")
    run(repo, 4)
    repo.git("stash", "--quiet")
    run(repo, 5)
    run(repo, 1)
    repo.git("checkout", "--quiet", ".")
    return repo


def run(repo: Repo, n: int) -> str:
    (repo.path / "params.yaml").write_text(f"n: {n}\n")
    return repo.dvc_here("repro")


@pytest.fixture
def here(history: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repo]:
    """Copy the repository, and be in it; downloads are in a folder of the test's own."""
    repo = history.copy(tmp_path / "repo")
    monkeypatch.chdir(repo.path)
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "downloads"))
    yield repo


def count(use: CacheUse) -> tuple[int, int, int]:
    return len(use.commits), len(use.experiments), len(use.unused)


def test_what_a_commit_a_tag_a_stash_or_an_experiment_names_stays(here: Repo) -> None:
    """Each run has four objects: a file, a folder's list, the file in it, and the metric."""
    assert count(cache_use()) == (12, 4, 4)
    entries = len(list(Path(".dvc/cache/runs").glob("*/*/*")))
    remove_unused()
    assert count(cache_use()) == (12, 4, 0)
    assert len(list(Path(".dvc/cache/runs").glob("*/*/*"))) == entries - 1

    # All comes back without running anything, by params as by checkout; but 5, which no commit names.
    for n in (2, 3, 4):
        output = run(here, n)
        assert (ran(output), from_cache(output)) == ([], ["make"])
        assert Path("folder/file").read_text() == f"folder/file {n}"
    here.git("checkout", "--quiet", "--force", "two")
    here.dvc_here("checkout")
    assert Path("made.txt").read_text() == "made.txt 2"
    assert ran(run(here, 5)) == ["make"]


def test_a_removed_experiment_is_unused(here: Repo) -> None:
    here.dvc_here("exp", "remove", "third")
    assert count(cache_use()) == (12, 0, 8)


def test_what_waits_in_the_queue_and_what_is_staged_stays(here: Repo) -> None:
    """Two tasks, of which DVC's reference names the last one only; both have data of the user's own."""
    for n in (1, 2):
        Path("own.txt").write_text(f"mine {n}")
        here.dvc_here("add", "--quiet", "own.txt")
        here.git("add", "--force", "own.txt.dvc")
        here.dvc_here("exp", "run", "--quiet", "--queue", "--set-param", f"n={n}")
    staged = hashlib.md5(b"staged").hexdigest()
    here.git("reset", "--quiet")
    Path("own.txt").write_text("staged")
    here.dvc_here("add", "--quiet", "own.txt")
    here.git("add", "--force", "own.txt.dvc")
    Path("own.txt.dvc").write_text("outs: []\n")
    assert set(cache_use().unused) & own_objects() == set() and staged in cache_use().commits
    remove_unused()
    assert {"mine 1", "mine 2", "staged"} <= {path.read_text() for path in OBJECTS.glob("??/*")}


def own_objects() -> set[str]:
    return {hashlib.md5(text).hexdigest() for text in (b"mine 1", b"mine 2", b"staged")}


def test_why_not_dvc_gc(here: Repo) -> None:
    """It takes the metrics' objects, and with them what the run cache knows of commits."""
    here.dvc_here("gc", "--force", "--all-commits", "--all-experiments")
    assert ran(run(here, 2)) == ["make"], (
        "dvc gc keeps what the run cache needs: use it in scripts/cache_use.py"
    )


def test_a_cache_of_several_repositories_is_left_alone(here: Repo, tmp_path: Path) -> None:
    here.dvc_here("config", "cache.dir", str(tmp_path / "shared"))
    with pytest.raises(UserError, match="the cache is not in this repository"):
        remove_unused()


def test_the_table_and_what_its_names_remove(here: Repo, tmp_path: Path) -> None:
    cache = tmp_path / "downloads"
    files = {
        "checkpoints": Path(".dvc/tmp/work/train/key-0/state"),
        "temporary": Path(".dvc/tmp/exps/standalone/tmpabc/file"),
        "harness": Path("data/harness/answers.jsonl"),
        "export": Path("export/gguf/m.gguf"),
        "space": Path("space/m.gguf"),
        "trackers": Path(".dvc/tmp/trackers/tensorboard/run/events"),
        "converted": cache / "models/some-model/model.safetensors",
        "downloads": cache / "pypi/digest/some.whl",
        "adapters": cache / "adapters/some/adapter_model.safetensors",
    }
    assert set(files) == set(clean_cache.parts())
    for number, file in enumerate(files.values(), 1):
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(number << 20))
    (cache / "models/some-model.lock").touch()
    os.link(files["temporary"], ".dvc/tmp/exps/standalone/tmpabc/link")  # removing one of two frees nothing
    sizes = {line.split()[-1]: line.split()[-2] for line in clean_cache.table()[1:]}
    assert {name: sizes[name] for name in files} == {
        name: "0.0" if name == "temporary" else f"{number}.0" for number, name in enumerate(files, 1)
    }
    for name, file in files.items():
        others = [path for path in files.values() if path.exists() and path != file]
        (said,) = clean_cache.clean([name])
        assert said.startswith(f"{name}: {sizes[name]} MiB freed (")
        assert not file.exists() and all(path.exists() for path in others)
    assert count(cache_use()) == (12, 4, 4)


def test_what_ended_and_killed_processes_left(here: Repo, tmp_path: Path) -> None:
    left = [Path(".dvc/cache/pull-abc/entry"), tmp_path / "downloads/pypi/sft-pypi-abc/some.whl"]
    ended = [Path(".dvc/tmp/work/evaluate", name) for name in ("1-0/answers", "1-0.finished", "2-0.finished")]
    stopped = [Path(".dvc/tmp/work/train", name) for name in ("3-0/state", "3-0.lock")]
    ended.append(Path(".dvc/tmp/scratch/abc/000.arrow"))
    for file in [*left, *ended, *stopped]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1 << 20))
    assert [clean_cache.size(clean_cache.parts()[name].paths()) >> 20 for name in CLEANED] == [5, 1, 2]
    clean_cache.clean(["temporary"])
    assert not any(file.exists() for file in [left[0], *ended]) and all(file.exists() for file in stopped)
    clean_cache.clean(["checkpoints", "downloads"])
    assert not any(file.exists() for file in [*left, *stopped])


def test_a_space_that_is_a_repository_stays(here: Repo) -> None:
    Path("space/.git").mkdir(parents=True)
    Path("space/m.gguf").touch()
    left = Path(".space.abc.partial/m.gguf")
    left.parent.mkdir()
    left.touch()
    clean_cache.clean(["space"])
    assert Path("space/m.gguf").exists() and not left.parent.exists()


def test_nothing_is_removed_while_dvc_or_a_stage_runs(here: Repo) -> None:
    Path("stages").mkdir()
    Path("stages/wait.py").write_text("print('here', flush=True); input()")
    command = [sys.executable, "-m", "stages.wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "here\n"
        for name in ("unused", "converted"):
            with pytest.raises(UserError, match=rf"^process {process.pid} is running \(.*stages\.wait\)"):
                clean_cache.clean([name])
        process.communicate("\n")
    assert count(cache_use()) == (12, 4, 4)
    clean_cache.clean(["unused", "converted"])


def test_the_command(here: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["clean_cache"])
    clean_cache.main()
    printed = capsys.readouterr().out
    assert re.search(
        r"^results of earlier runs, of no commit +\.dvc/cache +0\.0 +unused$", printed, re.MULTILINE
    )
    assert "Nothing was removed" in printed
    monkeypatch.setattr(sys, "argv", ["clean_cache", "everything"])
    with pytest.raises(SystemExit):
        clean_cache.main()
    assert "everything: there is unused, checkpoints" in capsys.readouterr().err
