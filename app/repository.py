"""This repository's models: the workspace's adapter, the base model, and any revision's adapter."""

from app import revisions
from app.answering import Answerer
from app.prompts import Messages
from app.revisions import BASE, WORKSPACE
from app.tickets import Report, Ticket, follow
from sft.core.errors import UserError
from stages.cli import described


class Repository:
    """Finds the model that a name stands for, and has it answer in this process."""

    default = WORKSPACE
    hint = "Any branch, tag, commit or experiment answers: choose it, or type its name."

    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer

    def called(self, name: str) -> str:
        """Return how the page names a model."""
        return {BASE: "base model"}.get(name, name)

    def listed(self) -> list[str]:
        """Return the workspace, the base, and what Git knows: experiments come and go."""
        return revisions.listed()

    def ask(self, name: str, messages: Messages, seed: int = 0, report: Report = lambda _: None) -> Ticket:
        """Begin an answer, after loading the model if need be."""
        try:
            report("looking for the adapter")
            return self.answerer.ask(revisions.find(name), messages, seed, report)
        except UserError as error:
            raise UserError(described(error)) from error

    def warm_up(self, report: Report) -> str:
        """Load the workspace's model and generate a first token; the base's where there is no adapter."""
        hint = ""
        try:
            try:
                source = revisions.find(WORKSPACE)
            except UserError as error:
                source = revisions.find(BASE)
                hint = f"{described(error)} Until then, the base model answers: choose it under Model."
            question = [{"role": "user", "content": "What can I make with salt?"}]
            ticket = self.answerer.ask(source, question, report=report, most_tokens=2)
        except UserError as error:
            raise UserError(described(error)) from error
        report("warming up")
        for _ in follow([ticket]):
            pass
        return hint or ticket.fault
