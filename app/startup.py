"""Loading the first model while the page is up already: what the page says of it."""

import asyncio
import threading
import traceback
from collections.abc import AsyncIterator

from app import card, revisions
from app.answering import Answerer, follow
from sft.core.errors import UserError
from stages.cli import described


class Startup:
    """The load of the workspace's model (where there is no adapter yet, the base) and its first token."""

    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer
        self.doing, self.fault, self.ready = "starting", "", False
        self._thread = threading.Thread(target=self._run, name="startup", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    async def follow(self) -> AsyncIterator[str]:
        """Yield the page's line on it until nothing more comes."""
        while not self.ready:
            yield card.progress(f"Loading the model: {self.doing} …")
            await asyncio.sleep(0.25)
        yield card.message(self.fault, "hint") if self.fault else ""

    def _report(self, what: str) -> None:
        self.doing = what
        print(f"{what} ...", flush=True)

    def _run(self) -> None:
        try:
            try:
                source = revisions.find(revisions.WORKSPACE)
            except UserError as error:
                source = revisions.find(revisions.BASE)
                self.fault = f"{described(error)} Until then, the base model answers: choose it under Model."
            question = [{"role": "user", "content": "What can I make with salt?"}]
            ticket = self.answerer.ask(source, question, report=self._report, most_tokens=2)
            self._report("warming up")
            for _ in follow([ticket]):
                pass
            self.fault = self.fault or ticket.fault
        except UserError as error:
            self.fault = described(error)
        except Exception:
            traceback.print_exc()
            self.fault = "The model could not be loaded: see the terminal."
        self.ready = True
        print(*filter(None, [self.fault]), "ready", sep="\n", flush=True)
