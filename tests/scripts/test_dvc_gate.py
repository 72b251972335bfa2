"""Whether dvc.lock is up to date, asked in clones without data; and what is read of DVC's answer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.dvc_gate import freshness
from sft.core.errors import UserError
from tests.pipeline_repo import Repo

LOOK_AT = (
    "changed in this version: see dvc/stage/__init__.py and dvc/output.py (status), mend scripts/dvc_gate.py"
)


def append(repo: Repo, path: str, text: str = "# A remark.\n") -> None:
    with (repo.path / path).open("a", encoding="utf-8") as file:
        file.write(text)


def replace(repo: Repo, path: str, old: str, new: str) -> None:
    text = (repo.path / path).read_text(encoding="utf-8")
    assert old in text
    (repo.path / path).write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "behind"),
    [
        (lambda repo: None, {}),
        (lambda repo: append(repo, "params.yaml"), {}),
        (lambda repo: repo.set_params({"train.budget": "5 steps"}), {"train": ["train.budget"]}),
        (lambda repo: append(repo, "sft/plotting/pipeline.py"), {"plot": ["sft/plotting"]}),
        (
            lambda repo: replace(repo, "dvc.yaml", "-m stages.mix", "-W ignore -m stages.mix"),
            {"mix": ["its command"]},
        ),
        (lambda repo: append(repo, "metrics/mix.json", "\n"), {"mix": ["metrics/mix.json"]}),
        # Other clones have what Git keeps, so this one should.
        (lambda repo: (repo.path / "metrics/train.json").unlink(), {"train": ["metrics/train.json"]}),
        (
            lambda repo: replace(
                repo, "dvc.yaml", "- models/adapter\n", "- models/adapter\n      - models/new\n"
            ),
            {"train": ["models/new"]},
        ),
    ],
    ids=["nothing", "comment", "param", "code", "command", "result", "missing", "new output"],
)
def test_what_is_behind(
    built: Repo, tmp_path: Path, change: Callable[[Repo], None], behind: dict[str, list[str]]
) -> None:
    repo = built.clone(tmp_path / "clone")
    change(repo)
    found = freshness(repo.path).behind
    # A later stage whose input is that very file is named too.
    assert found.items() >= behind.items() and all(behind.values()) and bool(found) == bool(behind)


def test_a_stage_that_has_not_run_since_the_one_before_it(repo: Repo, tmp_path: Path) -> None:
    repo.set_params({"data.size": 120})
    repo.dvc_here("repro", "mix")
    repo.commit("a mix, and no training")
    clone = repo.clone(tmp_path / "clone")
    assert not (clone.path / "data" / "mix").exists()
    behind = freshness(clone.path).behind
    assert behind["train"] == ["data/mix"] and behind.keys() == {"train", "plot", "card"}
    assert behind.keys() <= repo.changed_stages()


def test_a_pipeline_that_dvc_cannot_read_is_an_error(built: Repo, tmp_path: Path) -> None:
    repo = built.clone(tmp_path / "clone")
    append(repo, "dvc.yaml", "stages: {\n")
    with pytest.raises(UserError, match=r"dvc status --json failed: .*dvc\.yaml"):
        freshness(repo.path)


def test_the_words_of_dvc(built: Repo, tmp_path: Path) -> None:
    """What the gate reads in `dvc status --json`, with and without data."""
    clone = built.clone(tmp_path / "clone")
    clone.set_params({"train.budget": "5 steps"})
    append(clone, "stages/train.py")
    replace(clone, "dvc.yaml", "-m stages.mix", "-W ignore -m stages.mix")
    status = json.loads(clone.run("dvc", "status", "--json").stdout)
    train = {kind: what for entry in status["train"] for kind, what in entry.items()}
    assert train["changed deps"]["params.yaml"] == {"train.budget": "modified"}, LOOK_AT
    assert train["changed deps"]["stages/train.py"] == "modified", LOOK_AT
    assert train["changed deps"]["data/mix"] == "deleted", LOOK_AT
    assert train["changed outs"]["models/adapter"] == "not in cache", LOOK_AT
    assert "changed command" in status["mix"], LOOK_AT
    assert json.loads(built.run("dvc", "status", "--json").stdout) == {}, LOOK_AT
