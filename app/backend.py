"""What the page asks of what answers: this repository's models (app.repository), a server (app.served)."""

from typing import Protocol

from app.prompts import Messages
from app.tickets import Report, Ticket


class Backend(Protocol):
    """Models by their names, and their answers."""

    default: str  # the name of the model that answers unless another is chosen
    hint: str  # what the page says below the choice of models

    def called(self, name: str) -> str:
        """Return how the page names a model."""
        ...

    def listed(self) -> list[str]:
        """Return the names to choose from, as they are now."""
        ...

    def ask(self, name: str, messages: Messages, seed: int = 0, report: Report = ...) -> Ticket:
        """Begin an answer; `report` hears what has to be done before.

        Raises UserError, ready to be shown, where the model cannot be had or asked this.
        """
        ...

    def warm_up(self, report: Report) -> str:
        """Make the first answer come sooner; return what the page's users have to be told, or nothing.

        Raises UserError, ready to be shown, where there will be no answers.
        """
        ...
