"""The folder for what a stage needs on its way: gone at the end, and what killed stages have left is too."""

from pathlib import Path

import pytest

from stages import kept_work, scratch


def test_it_goes_at_the_end_and_on_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / ".dvc").mkdir()
    place = tmp_path / ".dvc/tmp/scratch"
    left = place / "left"
    with scratch.folder() as held:
        left.mkdir()
        (left / "rows.arrow").write_text("rows")
        with scratch.folder() as folder:
            (folder / "rows.arrow").write_text("rows")
            assert folder.parent == place and held.exists() and not left.exists()
        assert not folder.exists()
    with pytest.raises(ValueError, match="x"), scratch.folder() as folder:
        raise ValueError("x")
    assert not folder.exists() and not list(place.iterdir())


def test_without_a_repository_it_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_work, "place", lambda: None)
    with scratch.folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()
