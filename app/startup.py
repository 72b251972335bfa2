"""Loading the first model while the page is up already: what the page says of it."""

import asyncio
import threading
import traceback
from collections.abc import AsyncIterator

from app import card
from app.backend import Backend
from sft.core.errors import UserError


class Startup:
    """What has to be done before the first answer comes at once."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
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
            self.fault = self.backend.warm_up(self._report)
        except UserError as error:
            self.fault = str(error)
        except Exception:
            traceback.print_exc()
            self.fault = "The model could not be loaded: see the terminal."
        self.ready = True
        print(*filter(None, [self.fault]), "ready", sep="\n", flush=True)
