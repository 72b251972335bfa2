"""The small repository whose pipeline has run once, and a copy of it for each test that changes it."""

import gc
import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator

# Before anything imports torch: the threads of two processes on two cores wait longer than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests import made_sources, pipeline_repo, running_order

if TYPE_CHECKING:
    from sft.modeling.loading import Resolved

# A shell that runs the tests in the background has them ignore Ctrl-C, and nohup a hang-up; what they start
# would too.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than there are cores: every now and then a test waits for what it has started."""
    return min(4, (os.cpu_count() or 1) + 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    of_xdist = getattr(config, "workerinput", {"workercount": 1})
    items[:] = running_order.long_first(items, of_xdist["workercount"])


# Until then it would look at what is imported again and again: a fifth of the time of the imports.
gc.disable()


def pytest_collection_finish() -> None:
    """Have the garbage collector pass by what is imported by now, a million objects that stay.

    To look at them again and again took a fifth of the time of what is written in Python.
    """
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def yaml_parsed_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("dvc"):  # the tests of a GPU need none
            from tests import parsed_yaml

            parsed_yaml.install(patch)
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the test run's own folder, which all of pytest-xdist's processes have."""
    folder: Path = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> "Resolved":
    """Save a tiny model, sure enough of its tokens to be trained; tests only read it."""
    from tests.tiny import save_model

    return save_model(tmp_path_factory.mktemp("tiny"), spread=0.3)


@pytest.fixture(scope="session")
def built(shared_folder: Path) -> pipeline_repo.Repo:
    """Make the small repository and run the whole pipeline in it: once, whichever process comes first."""
    folder = shared_folder / "pipeline"
    with FileLock(shared_folder / "pipeline.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)  # where a first try failed
            made_sources.save_wheels(folder / "wheels")
            repo = pipeline_repo.create(folder / "repo", folder / "wheels")
            repo.dvc_here("repro")
            repo.commit("run")
            (folder / "done").touch()
    return pipeline_repo.Repo(folder / "repo", folder / "wheels")


@pytest.fixture
def repo(built: pipeline_repo.Repo, tmp_path: Path) -> pipeline_repo.Repo:
    """Copy the repository that has run, for this test alone."""
    return built.copy(tmp_path / "repo")
