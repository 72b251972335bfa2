"""Many users of the recipe chatbot at a time: is every answer whole, how long it takes, how much memory.

    python -m benchmarks.chat_load [--users 8] [--rounds 3] [--model base] [--max-tokens 256]

Serves the page of the working directory's repository on this machine, asks through the same events as the
page's buttons, first one user alone, then all at once in several rounds, and prints a Markdown table.
"""

import argparse
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from html import unescape
from pathlib import Path

KITCHENS = [
    "chicken, rice, lemon",
    "potatoes, leeks, cream",
    "flour, eggs, milk, sugar",
    "chickpeas, tomatoes, cumin",
    "salmon, dill, butter",
    "beef, onions, carrots",
    "apples, cinnamon, oats",
    "tofu, ginger, soy sauce",
]

HEAD = (
    "| users | first word, s: median | slowest | last word, s: slowest | words | whole answers | own answers "
    "| memory after, GiB |\n|---|---|---|---|---|---|---|---|"
)


@dataclass
class Visit:
    """What one user saw: seconds to the first word and to the last, and the answer."""

    first: float
    last: float
    words: int
    whole: bool
    own: bool


def main() -> None:
    """Serve, visit, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="base")
    parser.add_argument("--max-tokens", type=int, default=256)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "app.chat", "--port", str(port), "--max-tokens", str(options.max_tokens)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        with log.open("w") as file:
            app = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            while not re.search("^ready$", log.read_text(), re.MULTILINE):
                if app.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.1)
            print(HEAD, flush=True)
            report("1", visits(port, 1, options.model), app.pid)
            for number in range(options.rounds):
                seen = visits(port, options.users, options.model)
                report(f"{options.users}, round {number + 1}", seen, app.pid)
            print(f"\nThe server's memory at its most: {memory(app.pid, 'VmHWM'):.2f} GiB.")
            if "Traceback" in log.read_text():
                sys.exit(log.read_text())
        finally:
            app.terminate()
            app.wait()


def visits(port: int, users: int, model: str) -> list[Visit]:
    """Let so many users come at the same time, each with a page of their own."""
    seen: list[Visit] = []
    ready = threading.Barrier(users)

    def user(number: int) -> None:
        seen.append(visit(port, KITCHENS[number % len(KITCHENS)], model, ready))

    threads = [threading.Thread(target=user, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(seen) < users:
        sys.exit(f"error: {users - len(seen)} of {users} users got no answer")
    return seen


def visit(port: int, ingredients: str, model: str, ready: threading.Barrier) -> Visit:
    """Ask for a recipe as the page's button does, and watch it."""
    from gradio_client import Client

    client = Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
    ready.wait()
    started = time.monotonic()
    first, html = 0.0, ""
    for values in client.submit(ingredients, "", "", "", model, "", api_name="/write"):
        html = values[0]
        first = first or ("<article" in html and time.monotonic() - started) or 0.0
    last = time.monotonic() - started
    text = unescape(re.sub(r"<[^>]+>", " ", html.partition("<article")[2].partition('<p class="tools"')[0]))
    *names, name = ingredients.split(", ")
    question = re.search(r"ingredients: (.*?)\. Give me", html)
    own = bool(question) and unescape(question[1]) == f"{', '.join(names)} and {name}"  # type: ignore[index]
    return Visit(first, last, len(text.split()), "data-markdown" in html and 'role="alert"' not in html, own)


def report(users: str, seen: list[Visit], pid: int) -> None:
    """Print a row of the table, with the server's memory after it."""
    firsts, lasts = [one.first for one in seen], [one.last for one in seen]
    counts = [sum(values) for values in zip(*((one.words, one.whole, one.own) for one in seen), strict=True)]
    cells = [f"{statistics.median(firsts):.2f}", f"{max(firsts):.2f}", f"{max(lasts):.1f}", *counts]
    print(f"| {users} | {' | '.join(map(str, cells))} | {memory(pid, 'VmRSS'):.2f} |", flush=True)


def memory(pid: int, what: str) -> float:
    """Return a figure of the process's memory in GiB: VmRSS is now, VmHWM the most so far."""
    (kib,) = re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) / 2**20


if __name__ == "__main__":
    main()
