"""What `make remote` accepts, writes and installs; no server is asked."""

import logging
import re
import shutil
import sys
from pathlib import Path

import pytest

from scripts import remote, remote_errors, remote_kinds
from scripts.pull import pull
from scripts.push import push
from scripts.remote import configured, set_up
from scripts.remote_kinds import FOLDER, KINDS, Kind, install, kind_of
from scripts.restore import restore
from sft.core.errors import UserError
from tests.pipeline_repo import ROOT
from tests.toy_pipeline import Toy

CONFIG = "[core]\n    analytics = false\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository of DVC's that has nothing, and go there."""
    (tmp_path / "repo/.dvc").mkdir(parents=True)
    (tmp_path / "repo/.dvc/config").write_text(CONFIG)
    monkeypatch.chdir(tmp_path / "repo")
    monkeypatch.setattr("dvc.config.Config.SYSTEM_LEVELS", ())  # what the machine has set up for itself
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    with (tmp_path / "repo/.dvc/config").open("a") as config:
        config.write("    no_scm = true\n")
    return tmp_path / "repo"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("s3://bucket/a/path", KINDS["s3"]),
        ("gs://bucket", KINDS["gs"]),
        ("azure://container/path", KINDS["azure"]),
        ("ssh://me@host.example:2222/home/me/results", KINDS["ssh"]),
        ("/mnt/results", FOLDER),
        ("../results", FOLDER),
    ],
)
def test_kinds(url: str, kind: Kind) -> None:
    assert kind_of(url) is kind


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://host/path", "carry no run cache"),
        ("http://me:hush@host/path", "carry no run cache"),
        ("ftp://host/path", "ftp://: not known here.*s3://, gs://, azure://, ssh://"),
        ("me@host:/path", "written ssh://USER@HOST/PATH"),
        ("host:path", "written ssh://USER@HOST/PATH"),
        ("ssh://me:hush@host/path", "has a secret in it.*--local storage"),
        ("s3://KEY:hush@bucket/path", "has a secret in it.*AWS_ACCESS_KEY_ID"),
        ("s3://hush@bucket/path", "has a secret in it"),
        ("azure://container/path?sig=hush", "has a secret in it"),
        ("s3://", "not a whole URL: s3://BUCKET/PATH"),
        ("ssh://host", "not a whole URL: ssh://USER@HOST/PATH"),
    ],
)
def test_urls_that_are_refused_and_do_not_show_a_secret(folder: Path, url: str, says: str) -> None:
    before = (folder / ".dvc/config").read_text()
    with pytest.raises(UserError, match=says) as error:
        set_up(url)
    assert "hush" not in str(error.value)
    assert (folder / ".dvc/config").read_text() == before


def test_twice_is_harmless_and_another_url_replaces(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "../one: made the folder, written to and read" in set_up("../one")
    first = (folder / ".dvc/config").read_text()
    assert "url = ../../one" in first and "verify = true" in first and first.startswith(CONFIG)
    assert capsys.readouterr().out == ""
    assert "../one: reached, written to and read" in set_up("../one")
    assert (folder / ".dvc/config").read_text() == first
    with (folder / ".dvc/config").open("a") as config:
        config.write("    jobs = 3\n")  # an option of the user's
    set_up("../one")
    assert "jobs = 3" in (folder / ".dvc/config").read_text() and capsys.readouterr().out == ""
    set_up("../two")
    assert (folder / ".dvc/config").read_text() == first.replace("one", "two")
    assert f"The default remote was {folder.parent / 'one'}" in capsys.readouterr().out
    assert configured() == str(folder.parent / "two")
    assert [path.name for path in folder.parent.glob("*/check-*")] == []


def test_secrets_stay_out_of_git_and_go_to_no_other_host(folder: Path) -> None:
    set_up("../one")
    good = (folder / ".dvc/config").read_text()
    (folder / ".dvc/config.local").write_text("['remote \"storage\"']\n    jobs = 3\n")
    with pytest.raises(UserError, match=r"config\.local: jobs: set for .*one, and not to be sent to another"):
        set_up("../two")
    assert (folder / ".dvc/config").read_text() == good
    (folder / ".dvc/config.local").unlink()
    in_git = good.replace(f"{Path('../../one')}", "ssh://host/path") + "    password = hush\n"
    (folder / ".dvc/config").write_text(in_git)
    with pytest.raises(UserError, match=r"\.dvc/config: password: a secret") as error:
        set_up("ssh://host/path")
    assert "hush" not in str(error.value)


def test_a_folder_that_cannot_be_written_to(folder: Path) -> None:
    (folder.parent / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file/results: .*run this again.*may write to"):
        set_up("../file/results")


def test_a_folder_that_is_gone_is_not_made_anew(folder: Path) -> None:
    """As where the disk is not mounted: DVC would take it for an empty remote, and fill it."""
    set_up("../one")
    one = folder.parent / "one"
    one.rename(folder.parent / "unmounted")
    for action in (push, pull, configured):
        with pytest.raises(UserError, match=f"{one}: the remote is this folder, and it is not there"):
            action()
    assert not one.exists()
    assert "made the folder" in set_up("../one") and configured() == str(one)


def test_a_clone_restores_what_it_has_where_the_folder_is_gone(
    toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    with toy.here():
        set_up("../store")
        shutil.rmtree(toy.path.parent / "store")
        shutil.rmtree(toy.path / "models/adapter")
        said = "\n".join(restore())
        assert f"from the remote `storage`: {toy.path.parent / 'store'}: the remote is this folder" in said
        assert "As dvc.lock has them: the outputs of check, mix, train, evaluate, plot." in said
        assert (toy.path / "models/adapter/weights").exists()
        # There, and without what is asked for: in a sentence, and not in DVC's list of hashes.
        (toy.path.parent / "store").mkdir()
        shutil.rmtree(toy.path / ".dvc/cache/files")
        shutil.rmtree(toy.path / "models/adapter")
        assert "Not to be had, so `dvc repro` would run: check, mix, train" in "\n".join(restore())
    assert not caplog.records


def test_what_is_wrong_with_the_configuration_is_said(folder: Path) -> None:
    with pytest.raises(UserError, match="no remote is set up: make remote URL="):
        configured()
    (folder / ".dvc/config").write_text(
        CONFIG + "    remote = storage\n['remote \"storage\"']\n  url = [\n[[\n"
    )
    with pytest.raises(UserError, match=r"\.dvc/config or \.dvc/config\.local: "):
        configured()


def test_each_kind_has_its_package_pinned_once_for_all() -> None:
    pinned = dict(
        line.split("==")
        for line in (ROOT / "requirements-remotes.txt").read_text().splitlines()
        if "==" in line
    )
    assert pinned.keys() == {kind.package for kind in KINDS.values()}
    for name in ("constraints.txt", "constraints-gpu.txt"):
        lines = (ROOT / name).read_text().splitlines()
        assert {f"{package}=={version}" for package, version in pinned.items()} <= set(lines)


def test_a_package_is_installed_by_pip_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a pip that writes down what it is asked: the real one would change this environment."""
    for name in ("requirements-remotes.txt", "constraints.txt", "constraints-gpu.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "python").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "asked"}\nexit $STATUS\n')
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(remote_kinds, "_installed", lambda package: package == "dvc-s3")
    monkeypatch.setenv("STATUS", "0")
    install(KINDS["s3"], tmp_path)
    install(FOLDER, tmp_path)
    assert not (tmp_path / "asked").exists()
    install(KINDS["gs"], tmp_path)
    assert re.fullmatch(
        r"-m pip install --quiet dvc-gs==[\d.]+ -c constraints\.txt\n", (tmp_path / "asked").read_text()
    )
    monkeypatch.setenv("STATUS", "1")
    with pytest.raises(UserError, match=r"dvc-azure==[\d.]+ could not be installed"):
        install(KINDS["azure"], tmp_path)


def test_commands_end_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    remote_errors.run(lambda: "done", "again")
    assert capsys.readouterr().out == "done\n"

    def fails() -> str:
        raise UserError("no remote")

    def interrupted() -> str:
        raise KeyboardInterrupt

    for action, says in ((fails, "error: no remote"), (interrupted, f"interrupted. {remote.AGAIN}")):
        with pytest.raises(SystemExit) as error:
            remote_errors.run(action, remote.AGAIN)
        assert error.value.code == says


def test_the_cause_of_an_error_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    silent = ConnectionError()
    silent.__cause__ = TimeoutError("no answer\nand more")
    assert remote_errors.cause(silent) == "TimeoutError: no answer."
    before = logging.root.manager.disable
    said = r"^s3://bucket: OSError: no such host\. Do this$"
    with pytest.raises(UserError, match=said), remote_errors.reported("s3://bucket", "Do this"):
        logging.getLogger("gcsfs").error("a traceback")
        raise OSError("no such host")
    assert logging.root.manager.disable == before and not caplog.records
    with pytest.raises(TypeError), remote_errors.reported("s3://bucket", "Do this"):
        raise TypeError("a mistake of ours")
