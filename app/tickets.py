"""An answer that is waited for: its reader looks at the text as it grows, and may stop it."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

ABANDONED = 30.0  # seconds without a look at the ticket: its reader has gone

FAULT = "Something went wrong. Please try again."
TOO_MANY = "Many people are cooking just now. Please try again in a minute."
TOO_LONG = "The conversation is too long for this model. Start a new recipe."

State = Literal["waiting", "generating", "ended", "cut off", "stopped", "failed"]
Report = Callable[[str], None]


@dataclass(eq=False)
class Ticket:
    """An answer's state, the text so far, its fault if it failed, and how many tokens it may have."""

    most_tokens: int
    state: State = "waiting"
    text: str = ""
    fault: str = ""
    ahead: int = 0  # that wait before this one
    stopping: bool = False
    seen: float = field(default_factory=time.monotonic)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def over(self) -> bool:
        """Tell whether nothing more comes."""
        return self.state not in ("waiting", "generating")

    @property
    def unwanted(self) -> bool:
        """Tell whether it was stopped or has lost its reader."""
        return self.stopping or time.monotonic() - self.seen > ABANDONED

    def stop(self) -> None:
        """End the answer where it is; who generates it sees to it before the next token."""
        self.stopping = True

    def look(self, seconds: float) -> None:
        """Wait until there is more to see, for so many seconds at most."""
        self.seen = time.monotonic()
        with self.changed:
            if not self.over:
                self.changed.wait(seconds)

    def tell(self, state: State, text: str | None = None, fault: str = "") -> None:
        """Set what the reader sees."""
        with self.changed:
            self.state, self.fault = state, fault
            self.text = self.text if text is None else text
            self.changed.notify_all()


def follow(tickets: list[Ticket], every: float = 0.1) -> Iterator[None]:
    """Yield when there may be something new to see of the tickets, the last time when all are over."""
    try:
        while not all(ticket.over for ticket in tickets):
            started = time.monotonic()
            for ticket in tickets:
                ticket.look(every)
            time.sleep(max(0.0, every - (time.monotonic() - started)))
            yield
        yield
    finally:  # a reader that goes away
        for ticket in tickets:
            ticket.stop()
