"""The small repository whose pipeline has run once, and a copy of it for each test that changes it."""

from pathlib import Path

import pytest

from tests import pipeline_repo


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> pipeline_repo.Repo:
    """Make the small repository and run the whole pipeline in it."""
    folder: Path = tmp_path_factory.mktemp("pipeline")
    pipeline_repo.save_wheels(folder / "wheels")
    repo = pipeline_repo.create(folder / "repo", folder / "wheels")
    repo.dvc("repro")
    repo.commit("run")
    return repo


@pytest.fixture
def repo(built: pipeline_repo.Repo, tmp_path: Path) -> pipeline_repo.Repo:
    """Copy the repository that has run, for this test alone."""
    return built.copy(tmp_path / "repo")
