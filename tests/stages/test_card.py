"""The stage card on the pipeline that has run: the same run gives the same card, and Git has it."""

import json
from pathlib import Path

import pytest

from sft.core.files import read_json
from stages import paths
from tests.pipeline_repo import Repo


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(repo: Repo) -> None:
    card = repo.path / paths.CARD
    made = card.read_bytes()
    card.unlink()
    train = repo.path / paths.PROVENANCE_TRAIN
    record = read_json(train) | {"seconds": {"train": 1e6}, "device": "another", "tokens_per_second": 1.0}
    train.write_text(json.dumps(record))
    assert repo.stage("card") is None
    assert card.read_bytes() == made
    text = made.decode()
    assert str(repo.path) not in text and "/tmp" not in text
    assert repo.git("rev-parse", "HEAD").strip()[:7] not in text


def test_git_has_it_and_the_verdict_is_that_of_evaluate(built: Repo) -> None:
    assert paths.CARD in built.git("ls-files", "models").split()
    text = (built.path / paths.CARD).read_text(encoding="utf-8")
    for gain in (built.path / paths.GAIN).read_text().splitlines()[1:]:
        task, metric, before, *_ = gain.split(",")
        plain = ".0%" if metric == "format" else ".3f"
        assert f"| {task} | {float(before):{plain}} |" in text, metric


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        (paths.PROVENANCE_TRAIN, '"kinds"', '"sorts"', "damaged, or older than this code: kinds"),
        (paths.PROVENANCE_MIX, "{", "", "not valid JSON"),
    ],
)
def test_a_damaged_record_is_named_with_the_stage_that_mends_it(
    built: Repo, tmp_path: Path, path: str, old: str, new: str, said: str
) -> None:
    for name in ("params.yaml", "dvc.yaml", "metrics", "provenance", "plots"):
        (tmp_path / name).symlink_to(built.path / name)
    (tmp_path / "provenance").unlink()
    (tmp_path / "provenance").mkdir()
    for file in (built.path / "provenance").iterdir():
        (tmp_path / "provenance" / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / path
    broken.write_text(broken.read_text().replace(old, new, 1))
    message = str(Repo(tmp_path, built.wheels).stage("card"))
    assert message.startswith(f"error: {path}: ") and said in message
    assert not (tmp_path / paths.CARD).exists()
    broken.unlink()
    assert f"{path}: no such file. Run the stage that writes it" in str(
        Repo(tmp_path, built.wheels).stage("card")
    )
