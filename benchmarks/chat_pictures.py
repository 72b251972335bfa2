"""The pictures of docs/chat, of the workspace's adapter on the real page in a real browser.

    python -m benchmarks.chat_pictures          after make repro; needs Chromium

Writes docs/chat/one.png, two.png (beside the base model) and phone.png (narrow, in dark mode).
"""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "chat"
INGREDIENTS = "chicken, rice, lemon"
DONE = 120_000  # ms


def served(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the app and return it with its address, once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as file:
        app = subprocess.Popen(
            [sys.executable, "-m", "app.chat", "--port", str(port)], stdout=file, stderr=file
        )
    while not re.search(r"^ready$", log.read_text(), re.MULTILINE):
        if app.poll() is not None:
            sys.exit(log.read_text())
        time.sleep(0.5)
    return app, f"http://127.0.0.1:{port}"


def ask(page: Page, address: str, compare: str = "") -> None:
    """Open the page, ask for a recipe and wait for the whole of it, and of the other model's."""
    page.goto(address)
    expect(page.get_by_label("Ingredients")).to_be_visible(timeout=30_000)
    expect(page.locator("#status progress")).to_have_count(0, timeout=DONE)
    if compare:
        field = page.get_by_label("Compare with", exact=True)
        field.fill(compare)
        field.press("Enter")
        field.blur()
    page.get_by_label("Ingredients").fill(INGREDIENTS)
    page.get_by_role("button", name="Write a recipe").click()
    for number in (1, 2) if compare else (1,):
        pane = page.locator(f"#pane-{number} .pane")
        expect(page.locator(f"#pane-{number} .card:not(.blank)").first).to_be_visible(timeout=DONE)
        expect(pane).to_have_attribute("aria-busy", "false", timeout=DONE)


def main() -> None:
    """Take the three pictures."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        app, address = served(Path(folder) / "log.txt")
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            wide = {"width": 1280, "height": 800}
            for name, size, scheme, compare in (
                ("one", wide, "light", ""),
                ("two", wide, "light", "base"),
                ("phone", {"width": 375, "height": 812}, "dark", ""),
            ):
                page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
                ask(page, address, compare)
                page.screenshot(path=FOLDER / f"{name}.png", full_page=name != "phone")
                page.close()
            browser.close()
        finally:
            app.terminate()
            app.wait(20)


if __name__ == "__main__":
    main()
