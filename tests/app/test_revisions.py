"""Which adapter a name stands for, in real repositories; and the command that answers with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app import recipe, revisions
from app.answering import Answerer
from app.repository import Repository
from app.revisions import find, listed
from app.startup import Startup
from sft.core.errors import UserError
from stages.paths import ADAPTER
from tests.pipeline_repo import Repo
from tests.tiny import folder_bytes


@pytest.fixture
def here(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """The repository, in which this process is now too, with a download cache of its own."""
    monkeypatch.chdir(repo.path)
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "downloads"))
    for name in ("DVC_NO_ANALYTICS", "DVC_SITE_CACHE_DIR", "GIT_CONFIG_GLOBAL"):
        monkeypatch.setenv(name, repo.env[name])
    return repo


def test_the_workspace_and_the_base(here: Repo) -> None:
    source = find("workspace")
    assert (source.adapter, source.model.reference) == (Path(ADAPTER), "tiny-model")
    assert (source.model.dtype, source.temperature) == ("bfloat16", 0.7)
    base = find("base")
    assert (base.adapter, base.key, base.model) == (None, "", source.model)


def test_any_revision_s_adapter_comes_through_dvc(here: Repo) -> None:
    """Of an experiment, a tag, a commit; the workspace stays as it is, and nothing is fetched twice."""
    first = folder_bytes(here.path / ADAPTER)
    commit = here.git("rev-parse", "HEAD").strip()
    here.git("tag", "v1")
    here.dvc_here("exp", "run", "--name", "other-seed", "--set-param", "train.seed=7", "train")
    other = folder_bytes(here.path / ADAPTER)
    assert other != first
    here.git("checkout", "--quiet", "--force", "HEAD")
    here.dvc_here("checkout", "--force")
    status = here.git("status", "--porcelain")

    for name, expected in (("v1", first), (commit[:9], first), ("main", first), ("other-seed", other)):
        source = find(name)
        assert source.adapter and source.adapter != Path(ADAPTER)
        assert folder_bytes(source.adapter) == expected and source.name == name
    assert find("v1").adapter == find("main").adapter != find("other-seed").adapter
    assert find("main").key in here.lock()["train"][ADAPTER].replace(".", "-")
    assert here.git("status", "--porcelain") == status
    assert folder_bytes(here.path / ADAPTER) == first
    assert listed()[:3] == ["workspace", "base", "other-seed"] and {"main", "v1"} < set(listed())

    # From now on neither DVC's cache nor a remote is needed for them.
    (here.path / ".dvc" / "cache").rename(here.path / "gone")
    assert folder_bytes(find("other-seed").adapter or Path()) == other


def test_a_revision_s_own_params(here: Repo) -> None:
    here.git("switch", "--quiet", "--create", "warmer")
    here.set_params({"evaluate.temperature": 1.5})
    here.commit()
    here.git("switch", "--quiet", "main")
    assert (find("warmer").temperature, find("main").temperature) == (1.5, 0.7)


def test_a_rerun_of_the_pipeline_is_noticed(here: Repo) -> None:
    before = find("workspace").key
    assert find("workspace").key == before
    weights = here.path / ADAPTER / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.unlink()  # it is a hard link into the cache
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert find("workspace").key != before


ODD = ["HEAD:app", "HEAD^{tree}", "main:params.yaml", "x" * 300_000, "é" * 3_000, "\ud800"]


@pytest.mark.parametrize("name", ["nowhere", "", "-h", "--all", "HEAD~99", "v1; rm -rf .", "../../etc", *ODD])
def test_a_revision_that_does_not_exist(here: Repo, name: str) -> None:
    with pytest.raises(UserError, match="no such revision"):
        find(name)


def test_revisions_without_an_adapter(here: Repo) -> None:
    here.git("switch", "--quiet", "--create", "untrained")
    (here.path / "dvc.lock").unlink()
    here.commit()
    here.git("switch", "--quiet", "--orphan", "empty")
    here.git("commit", "--quiet", "--allow-empty", "--message", "nothing")
    here.git("switch", "--quiet", "main")
    for name in ("untrained", "empty"):
        with pytest.raises(UserError, match=f"^{name}: it has no adapter"):
            find(name)


def test_an_adapter_that_is_in_no_cache(here: Repo) -> None:
    weights = here.lock()["train"][ADAPTER]
    listing = here.path / ".dvc/cache/files/md5" / weights[:2] / weights[2:]
    (file,) = [
        here.path / ".dvc/cache/files/md5" / part["md5"][:2] / part["md5"][2:]
        for part in json.loads(listing.read_text())
        if part["relpath"].endswith(".safetensors")
    ]
    for gone in (file, here.path / ".dvc" / "cache"):
        gone.rename(here.path / "gone")
        with pytest.raises(UserError, match="main: its adapter is neither in DVC's cache nor in a remote"):
            find("main")
        assert not list((revisions.cache_dir() / "adapters").glob("*-dir"))
        (here.path / "gone").rename(gone)
    assert find("main").adapter


def test_a_workspace_without_an_adapter(here: Repo) -> None:
    (here.path / ADAPTER / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"models/adapter: no adapter there yet\. Train one: make repro"):
        find("workspace")


def test_a_folder_that_is_no_git_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert listed() == ["workspace", "base"]
    for name in ("workspace", "main"):
        with pytest.raises(UserError):
            find(name)


def test_the_command_streams_a_recipe(here: Repo, monkeypatch, capsys) -> None:
    command = ["rice, leeks", "--max-tokens", "30"]
    first = here.run("python", "-m", "app.recipe", *command)
    assert first.stdout != "\n" and "no dietician" in first.stderr
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process's own signals are not the command's

    def printed(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["recipe", *arguments])
        recipe.main()
        return capsys.readouterr().out

    assert printed(*command, "--model", "main") == first.stdout
    assert printed(*command, "--seed", "1") != first.stdout
    assert printed(*command, "--model", "base") != "\n"
    with pytest.raises(SystemExit, match=r"^error: nowhere: no such revision"):
        printed(*command, "--model", "nowhere")
    with pytest.raises(SystemExit, match=r"^error: .*no ingredient"):
        printed("12")
    assert json.loads(here.run("dvc", "status", "--json").stdout) == {}


def test_the_page_comes_up_without_an_adapter_and_says_so(here: Repo, capsys: pytest.CaptureFixture) -> None:
    (here.path / ADAPTER / "adapter_config.json").unlink()
    startup = Startup(Repository(Answerer(most_tokens=5)))
    startup.start()
    lines = asyncio.run(all_of(startup.follow()))
    assert "<progress>" in lines[0]
    assert "no adapter there yet. Train one: make repro" in lines[-1] and "base model answers" in lines[-1]
    assert "reading the weights ..." in capsys.readouterr().out


async def all_of(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]
