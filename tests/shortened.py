"""A pipeline that has run, without the stages, or what they have made, that a test would only wait for."""

import shutil

from ruamel.yaml import YAML

from tests.pipeline_repo import STAGES, Repo


def forget(repo: Repo, *stages: str, last: str = "card") -> None:
    """Take away what these stages have written, and every memory of their having run.

    The pipeline then ends with the stage `last`: those after it would only cost time.
    """
    shutil.rmtree(repo.path / ".dvc/cache/runs")
    beyond = STAGES[STAGES.index(last) + 1 :]
    yaml = YAML()
    for name, left_out in (("dvc.lock", {*stages, *beyond}), ("dvc.yaml", beyond)):
        document = yaml.load(repo.path / name)
        for stage in left_out:
            del document["stages"][stage]
        with (repo.path / name).open("w") as file:
            yaml.dump(document, file)
    for stage in stages:
        for output in repo.lock("HEAD")[stage]:
            path = repo.path / output
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    repo.commit(f"without {stages}")
