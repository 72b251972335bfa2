"""The browser of the tests that look at the chatbot's page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, sync_playwright

from tests.app.window import CHROMIUM


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """A browser whose windows share the files of the page, which take longest to load."""
    assert CHROMIUM, "CI is set and there is no Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_context(viewport={"width": 1280, "height": 800})
        browser.close()
