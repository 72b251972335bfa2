"""The small repository's own means: DVC in the tests' process, and in one of its own with the stages."""

import logging

from dvc.logger import set_loggers_level

from tests.pipeline_repo import Repo, ran


def test_what_dvc_prints_is_caught_whatever_level_another_test_has_left(repo: Repo) -> None:
    repo.set_params({"plot.dpi": 50})
    with set_loggers_level(logging.WARNING):  # as DVCLive does, for good
        assert ran(repo.dvc_here("repro", "--dry", "plot")) == ["plot"]


def test_the_stages_run_by_the_repository_s_own_code(repo: Repo) -> None:
    stage = repo.path / "stages" / "mix.py"
    stage.write_text(
        stage.read_text().replace(
            'if __name__ == "__main__":', 'if __name__ == "__main__":\n    print("by its own code")', 1
        )
    )
    module = repo.path / "sft" / "mixing" / "mix.py"
    module.write_text(module.read_text() + '\nprint(f"from {__file__}")\n')
    output = repo.dvc_apart("repro", "--single-item", "mix")
    assert "by its own code" in output and f"from {module}" in output
