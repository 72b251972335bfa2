"""Two clones share what has run, through real servers; a remote that breaks off or lies loses nothing."""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import asyncssh
import fsspec.asyn
import pytest
from dvc.exceptions import CheckoutError
from dvc.repo import Repo as DvcRepo

from scripts import remote_cache
from scripts.pull import pull
from scripts.push import push
from scripts.remote import set_up
from scripts.remote_cache import object_path
from sft.core.errors import UserError
from tests.pipeline_repo import Repo, from_cache, ran
from tests.remote_servers import S3Server, SSHServer

CACHE = Path(".dvc/cache")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SSHServer]:
    with SSHServer(tmp_path / "server", tmp_path / "home") as server:
        yield server


def within(repo: Repo, action: Callable[[], str]) -> str:
    """Call what `make push` and the like call, in a repository, as a process of its own would."""
    # The connections that an earlier one has made are not those of a new process.
    for client in fsspec.asyn.AsyncFileSystem.__subclasses__():
        client.clear_instance_cache()
    with contextlib.chdir(repo.path), mock.patch.dict(os.environ, repo.env, clear=True):
        return action()


def in_s3(repo: Repo, server: S3Server, bucket: str) -> None:
    """Give a repository a bucket for its remote; an endpoint is an option that the user sets."""
    repo.extra_env |= server.environment() | {"HOME": str(repo.path.parent)}
    server.request("PUT", f"/{bucket}")
    config = repo.path / ".dvc/config"
    section = f"['remote \"storage\"']\n    url = s3://{bucket}/results\n    endpointurl = {server.url}\n"
    config.write_text(config.read_text() + section)
    within(repo, lambda: set_up(f"s3://{bucket}/results"))
    repo.commit("remote")


def in_ssh(repo: Repo, server: SSHServer) -> None:
    repo.extra_env["HOME"] = str(server.home)
    within(repo, lambda: set_up(server.url))
    repo.commit("remote")


def in_folder(repo: Repo) -> Path:
    within(repo, lambda: set_up("../remote"))
    repo.commit("remote")
    return repo.path.parent / "remote"


def cloned(repo: Repo) -> Repo:
    clone = repo.clone(repo.path.parent / "clone")
    clone.extra_env = repo.extra_env
    return clone


def objects(cache: Path) -> dict[str, Path]:
    """Return a cache's objects by their hashes."""
    return {path.parent.name + path.name: path for path in (cache / "files/md5").glob("??/*")}


def test_clones_share_what_has_run_by_a_folder(repo: Repo) -> None:
    remote = in_folder(repo)
    assert "url = ../../remote" in (repo.path / ".dvc/config").read_text()  # so a clone beside it has it, too
    assert within(repo, push).startswith("Pushed ")
    sent = {path: path.stat().st_mtime_ns for path in remote.rglob("*")}
    assert "has everything" in within(repo, push)
    assert {path: path.stat().st_mtime_ns for path in remote.rglob("*")} == sent
    assert objects(remote).keys() == objects(repo.path / CACHE).keys()
    assert remote_cache.entries(remote) == remote_cache.entries(repo.path / CACHE) != []
    clone = cloned(repo)
    assert re.search(r"Changed here: data/mix, data/[^,]*, data/[^,]* and \d more\.$", within(clone, pull))
    assert clone.changed_stages() == set()
    assert objects(clone.path / CACHE).keys() == objects(remote).keys()
    assert remote_cache.entries(clone.path / CACHE) == remote_cache.entries(remote)
    (clone.path / "data/removed.parquet").unlink()
    assert within(clone, pull).endswith(f"and 0 runs from {remote}. Changed here: data/removed.parquet.")
    assert within(clone, pull) == f"Pulled 0 objects (0.0 MiB) and 0 runs from {remote}."
    assert not list((clone.path / CACHE).glob("pull-*"))


def test_clones_share_what_has_run_by_ssh(repo: Repo, ssh: SSHServer) -> None:
    in_ssh(repo, ssh)
    within(repo, push)
    assert "has everything" in within(repo, push)
    clone = cloned(repo)
    within(clone, pull)
    assert clone.changed_stages() == set()
    assert objects(clone.path / CACHE).keys() == objects(repo.path / CACHE).keys()


def test_a_run_beyond_the_lock_and_an_experiment_reach_another_clone(repo: Repo, s3: S3Server) -> None:
    in_s3(repo, s3, "experiments")
    repo.git("clone", "--quiet", "--bare", ".", "../origin")
    repo.git("remote", "add", "origin", "../origin")
    shorter = ("exp", "run", "mix", "-S", "data.filters.min_words=3")
    assert ran(repo.dvc_here(*shorter, "--name", "shorter")) == ["mix"]
    mixed = repo.lock()["mix"]["data/mix"]
    repo.dvc_here("exp", "push", "origin", "shorter")
    within(repo, push)

    clone = Repo(repo.path.parent / "origin", repo.wheels).clone(repo.path.parent / "clone")
    clone.extra_env = repo.extra_env
    within(clone, pull)
    assert clone.changed_stages() == set()
    output = clone.dvc_here(*shorter)
    assert (ran(output), from_cache(output)) == ([], ["mix"])
    assert clone.lock()["mix"]["data/mix"] == mixed
    assert clone.json("metrics/mix.json") == repo.json("metrics/mix.json")

    clone.git("reset", "--quiet", "--hard")
    clone.dvc_here("exp", "pull", "origin", "shorter")
    clone.dvc_here("exp", "apply", "shorter")
    assert clone.lock()["mix"]["data/mix"] == mixed
    assert clone.json("metrics/mix.json") == repo.json("metrics/mix.json")


def test_a_server_that_dies_in_a_push(repo: Repo, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)  # of five, with seconds between
    in_s3(repo, s3, "dying")
    had = objects(repo.path / CACHE).keys()
    s3.puts = 5
    try:
        with pytest.raises(UserError, match=r"\d+ of \d+ files could not be sent.*Nothing is lost"):
            within(repo, push)
        with pytest.raises(UserError, match=r"onnection.*Nothing is lost"):  # it is gone now
            within(repo, push)
    finally:
        s3.puts = None
    clone = cloned(repo)
    with pytest.raises(UserError, match=r"lacks .* of the objects that dvc.lock names"):
        within(clone, pull)
    assert within(repo, push).startswith("Pushed ")
    assert objects(repo.path / CACHE).keys() == had
    within(clone, pull)
    assert clone.changed_stages() == set()


@pytest.mark.parametrize(("ends", "says"), [("full", "No space left"), ("lost", "onnection")])
def test_a_disk_that_is_full_and_a_connection_that_is_lost(
    repo: Repo, ssh: SSHServer, ends: str, says: str
) -> None:
    in_ssh(repo, ssh)
    ssh.ends, ssh.bytes_left = ends, 60_000
    with pytest.raises(UserError, match=f"could not be sent.*{says}.*Nothing is lost"):
        within(repo, push)
    there, here = objects(ssh.folder / "remote"), objects(repo.path / CACHE)
    named = {digest: path for digest, path in there.items() if digest in here}
    assert 0 < len(named) < len(here)
    assert all(path.read_bytes() == here[digest].read_bytes() for digest, path in named.items())
    ssh.bytes_left = None
    within(repo, push)
    clone = cloned(repo)
    within(clone, pull)
    assert clone.changed_stages() == set()


def test_a_download_that_breaks_off_is_no_object(repo: Repo, ssh: SSHServer) -> None:
    in_ssh(repo, ssh)
    within(repo, push)
    clone = cloned(repo)
    within(clone, pull)
    base = clone.path / CACHE / object_of(repo.path / "data/standardized/base/000.parquet")
    content = base.read_bytes()
    base.unlink()
    ssh.ends, ssh.bytes_left = "lost", len(content) // 2
    with pytest.raises(UserError, match=r"1 of 1 files could not be had.*What has come is kept"):
        within(clone, pull)
    assert not base.exists()
    ssh.bytes_left = None
    within(clone, pull)
    assert base.read_bytes() == content


def object_of(file: Path) -> str:
    return object_path(hashlib.md5(file.read_bytes()).hexdigest())


@pytest.mark.parametrize("cut_short", [True, False])
def test_a_damaged_object_is_not_taken(repo: Repo, cut_short: bool) -> None:
    remote = in_folder(repo)
    within(repo, push)
    path = object_of(repo.path / "data/mix/000.parquet")
    content = bytearray((remote / path).read_bytes())
    content[len(content) // 2] ^= 1
    (remote / path).chmod(0o644)
    (remote / path).write_bytes(content[:-9] if cut_short else content)
    (remote / path).chmod(0o444)  # by which DVC takes it for checked
    clone = cloned(repo)
    with pytest.raises(UserError, match=f"damaged there, and left out: {path}"):
        within(clone, pull)
    assert not (clone.path / CACHE / path).exists()
    # Nor by `dvc pull`, since `make remote` has set `verify`.
    with pytest.raises(CheckoutError, match="data/mix"), DvcRepo(str(clone.path)) as dvc:
        within(clone, lambda: str(dvc.pull()))
    if not cut_short:  # which push sees by itself
        (remote / path).unlink()
    within(repo, push)
    within(clone, pull)
    assert clone.changed_stages() == set()


def test_a_damaged_entry_of_the_run_cache_is_left_out(repo: Repo) -> None:
    remote = in_folder(repo)
    within(repo, push)
    entry = remote_cache.entries(remote)[0]
    text = (remote / entry).read_text()
    (remote / entry).write_text(text[: text.rindex("- path")])  # still one that DVC takes: an output less
    clone = cloned(repo)
    with pytest.raises(UserError, match=f"damaged there, and left out: {entry}"):
        within(clone, pull)
    assert not (clone.path / CACHE / entry).exists()
    within(repo, push)
    within(clone, pull)
    assert remote_cache.entries(clone.path / CACHE) == remote_cache.entries(repo.path / CACHE)


def test_an_entry_without_its_outputs_does_not_travel(repo: Repo) -> None:
    remote, cache = in_folder(repo), repo.path / CACHE
    digest = hashlib.md5((repo.path / "metrics/mix.json").read_bytes()).hexdigest()
    (of_mix,) = [e for e in remote_cache.entries(cache) if digest in remote_cache.outputs(cache / e)]
    kept = (cache / object_path(digest)).read_bytes()
    (
        cache / object_path(digest)
    ).unlink()  # as after dvc gc, which keeps what dvc.lock names, not uncached metrics
    within(repo, push)
    assert of_mix not in remote_cache.entries(remote)
    (cache / object_path(digest)).write_bytes(kept)
    within(repo, push)
    assert of_mix in remote_cache.entries(remote)
    (remote / object_path(digest)).unlink()
    clone = cloned(repo)
    within(clone, pull)
    assert of_mix not in remote_cache.entries(clone.path / CACHE)
    assert clone.changed_stages() == set()


def test_what_neither_side_has_is_said(repo: Repo) -> None:
    in_folder(repo)
    (repo.path / CACHE / object_path(repo.lock()["mix"]["data/removed.parquet"])).unlink()
    with pytest.raises(UserError, match=r"1 outputs that dvc\.lock names are neither here nor in"):
        within(repo, push)
    clone = cloned(repo)
    for one in (repo, clone):
        with pytest.raises(UserError, match=r"lacks 1 of the objects that dvc\.lock names"):
            within(one, pull)
    assert (repo.path / "data/removed.parquet").exists()  # what is here stays
    assert (clone.path / "models/adapter").exists() and not (clone.path / "data/removed.parquet").exists()


def test_who_may_not_enter_is_told_what_to_set(repo: Repo, s3: S3Server, ssh: SSHServer) -> None:
    in_s3(repo, s3, "guarded")
    url = "s3://guarded/results"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del repo.extra_env[name]
    with pytest.raises(UserError, match=f"{url}: NoCredentialsError.*AWS_ACCESS_KEY_ID"):
        within(repo, lambda: set_up(url))
    repo.extra_env |= s3.environment()
    s3.request("DELETE", "/guarded")
    with pytest.raises(UserError, match=f"{url}: FileNotFoundError: The specified bucket does not exist"):
        within(repo, lambda: set_up(url))

    repo.extra_env["HOME"] = str(ssh.home)
    within(repo, lambda: set_up(ssh.url))
    ssh.trust(asyncssh.generate_private_key("ssh-ed25519"))  # another server than the one that answers
    with pytest.raises(UserError, match=r"Host key is not trusted.*Nothing is lost"):
        within(repo, push)
    ssh.trust(ssh.host_key)
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(ssh.home / ".ssh/id_ed25519"))
    with pytest.raises(UserError, match=r"Permission.*a key that the host accepts"):
        within(repo, lambda: set_up(ssh.url))


def test_dvc_itself_accepts_any_host(repo: Repo, ssh: SSHServer) -> None:
    """What docs/remotes.md warns of: if this fails, the warning and what scripts/compat.py sets can go."""
    in_ssh(repo, ssh)
    ssh.trust(asyncssh.generate_private_key("ssh-ed25519"))
    with DvcRepo(str(repo.path)) as dvc:
        assert int(within(repo, lambda: str(dvc.push()))) > 0
