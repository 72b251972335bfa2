"""What a clone lacks of data/raw, by the files that DVC wrote."""

from pathlib import Path

import pytest

from scripts.raw_data import absent
from scripts.revisions import git
from sft.core.errors import UserError

POINTER = Path("data/raw/my.jsonl.dvc")


def written(folder: Path, text: str) -> None:
    (folder / POINTER).parent.mkdir(parents=True)
    (folder / POINTER).write_text(text)
    git("init", "--quiet", folder=folder)
    git("add", "--all", folder=folder)


@pytest.mark.parametrize(
    ("outs", "lacking"),
    [
        ("outs: [{md5: '1', path: my.jsonl}]", {"data/raw/my.jsonl": "1"}),
        # `dvc add --file`; a folder's hash; and what is here.
        ("outs: [{md5: '1.dir', path: rows}]", {"data/raw/rows": "1.dir"}),
        ("wdir: ..\nouts: [{md5: '1', path: raw/a}, {md5: '2', path: raw/here}]", {"data/raw/a": "1"}),
    ],
)
def test_what_is_tracked_and_absent(tmp_path: Path, outs: str, lacking: dict[str, str]) -> None:
    written(tmp_path, outs)
    (tmp_path / "data/raw/here").touch()
    assert absent(tmp_path) == lacking


@pytest.mark.parametrize(
    "text", ["{}", "outs:", "outs: [a]", "outs: [{path: my.jsonl}]", "outs: [{md5: 1, path: a}]"]
)
def test_a_damaged_pointer_is_named(tmp_path: Path, text: str) -> None:
    written(tmp_path, text)
    with pytest.raises(UserError, match=f"^{POINTER}: damaged: "):
        absent(tmp_path)
