"""The repositories that tests of the scripts begin with, each made once a process."""

from pathlib import Path

import pytest

from tests import report_repo, toy_pipeline
from tests.pipeline_repo import Repo
from tests.toy_pipeline import Toy


@pytest.fixture(scope="session")
def toy_origin(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Make the repository of stages that take no time, once a process; tests only copy it."""
    return toy_pipeline.create(tmp_path_factory.mktemp("toy") / "repo")


@pytest.fixture
def toy(toy_origin: Toy, tmp_path: Path) -> Toy:
    """Copy that repository, for this test alone."""
    return Toy(toy_origin.copy(tmp_path / "repo").path, toy_origin.wheels)


@pytest.fixture(scope="session")
def origin(built: Repo, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Make a repository with a branch for everything that a report may say; tests only clone it."""
    return report_repo.create(built, tmp_path_factory.mktemp("origin") / "repo")
