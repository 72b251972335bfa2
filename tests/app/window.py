"""A user's window: a real browser on the chatbot's page."""

import os
import shutil
from typing import Literal

import pytest
from playwright.sync_api import BrowserContext, Page, expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# In CI a test that is skipped would be one that nobody runs: there the browser's fixture fails instead.
NEEDS_BROWSER = [
    pytest.mark.long,
    pytest.mark.skipif(
        not CHROMIUM and not os.environ.get("CI"),
        reason="no Chromium. On Debian, as root: apt-get install chromium",
    ),
]

DONE = 60_000  # ms; a few seconds are usual
Scheme = Literal["light", "dark"]


class Kitchen:
    """A user's window: what they do, and what their browser complained of."""

    def __init__(self, browser: BrowserContext, address: str, width: int = 1280, scheme: Scheme = "light"):
        self.page: Page = browser.new_page()
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.emulate_media(color_scheme=scheme)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._only_here(request.url, address))
        self.page.on("response", lambda response: self._fine(response.status, response.url))
        self.page.goto(address)
        expect(self.page.get_by_label("Ingredients")).to_be_visible(timeout=30_000)
        expect(self.page.locator("#status progress")).to_have_count(0, timeout=60_000)

    def _only_here(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.complaints.append(f"a request to {url}")

    def _fine(self, status: int, url: str) -> None:
        if status >= 400:
            self.complaints.append(f"{status} of {url}")

    def pane(self, number: int = 1):
        return self.page.locator(f"#pane-{number} .pane")

    def text(self, number: int = 1) -> str:
        return self.page.locator(f"#pane-{number} .card, #pane-{number} .reply").last.inner_text()

    def begin(self, ingredients: str, model: str = "", compare: str = "") -> None:
        for label, name in (("Model", model), ("Compare with", compare)):
            if name:
                field = self.page.get_by_label(label, exact=True)
                field.fill(name)
                field.press("Enter")
                field.blur()
        self.page.get_by_label("Ingredients").fill(ingredients)
        self.page.get_by_role("button", name="Write a recipe").click()

    def streams(self, number: int = 1) -> None:
        """Wait until text is coming."""
        expect(self.page.locator(f"#pane-{number} .card:not(.blank)").first).to_be_visible(timeout=DONE)

    def busy(self) -> None:
        expect(self.pane()).to_have_attribute("aria-busy", "true", timeout=DONE)

    def done(self, *numbers: int) -> None:
        for number in numbers or (1,):
            expect(self.pane(number)).to_have_attribute("aria-busy", "false", timeout=DONE)
        expect(self.page.get_by_role("button", name="Write a recipe")).to_be_enabled(timeout=DONE)

    def state(self, number: int = 1) -> str:
        return self.pane(number).locator(".model").inner_text()
