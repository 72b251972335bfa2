"""Where downloads are kept."""

import platform
from pathlib import Path

import pytest

from sft.core.errors import UserError
from sft.fetch.cache import cache_dir


def test_a_folder_of_the_users_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own" and cache_dir().is_dir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SFT_CACHE", "~/mine")
    assert cache_dir() == tmp_path / "mine"


@pytest.mark.skipif(platform.system() != "Linux", reason="the folders are Linux's")
def test_the_systems_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SFT_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for xdg, folder in ((str(tmp_path / "xdg"), "xdg/sft"), ("", ".cache/sft"), (None, ".cache/sft")):
        if xdg is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert cache_dir() == tmp_path / folder and cache_dir().is_dir()


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="SFT_CACHE"):
        cache_dir()
