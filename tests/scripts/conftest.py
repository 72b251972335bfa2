"""The repository that reports are made of, once a process."""

import pytest

from tests import report_repo
from tests.pipeline_repo import Repo


@pytest.fixture(scope="session")
def origin(built: Repo, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Make a repository with a branch for everything that a report may say; tests only clone it."""
    return report_repo.create(built, tmp_path_factory.mktemp("origin") / "repo")
