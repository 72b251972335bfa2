"""One user's conversation: what is asked of which models, how it goes on, and how the page follows it."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator

from app import prompts, revisions
from app.answering import FAULT, Answerer, Ticket
from app.card import Pane, Turn
from sft.errors import UserError

EVERY = 0.15  # seconds between two looks at what has been written
LEARNT_ENGLISH = "The model learnt from English recipes: what it makes of these names is a guess."


class Talk:
    """The panes, one a model; by their places, the tickets of the answers that are being written."""

    def __init__(self) -> None:
        self.panes: list[Pane] = []
        self.names: list[str] = []
        self.tickets: dict[int, Ticket] = {}
        self.stopping = False

    def stop(self) -> None:
        """End what is being written; what is there stays."""
        self.stopping = True
        for ticket in list(self.tickets.values()):
            ticket.stop()

    def begin(self, wish: prompts.Wish, names: list[str]) -> None:
        """Ask for a recipe anew; raises UserError for what cannot be asked."""
        (question,) = prompts.recipe(wish)
        remark = LEARNT_ENGLISH if prompts.other_script(wish.ingredients) else ""
        self.names = list(dict.fromkeys(names))
        self.panes = [Pane(called(name), [Turn(question["content"])], remark) for name in self.names]

    def go_on(self, text: str) -> None:
        """Ask about the recipe; raises UserError where there is none yet, or no question."""
        if not self.panes or not any(pane.turns[-1].answer for pane in self.panes):
            raise UserError("There is no recipe to ask about yet. Write one first.")
        (question,) = prompts.follow_up([], text)
        for pane in self.panes:
            pane.turns.append(Turn(question["content"]))

    def again(self) -> None:
        """Ask the last question once more, with other noise; raises UserError where there is none."""
        if not self.panes:
            raise UserError("There is nothing to write again yet. Write a recipe first.")
        for pane in self.panes:
            last = pane.turns[-1]
            pane.turns[-1] = Turn(last.question, seed=last.seed + 1)


def called(name: str) -> str:
    """Return how the page names a model."""
    return {revisions.BASE: "base model"}.get(name, name)


def messages(pane: Pane) -> prompts.Messages:
    """Return the conversation up to the last question; exchanges that failed are left out."""
    *before, last = pane.turns
    told: prompts.Messages = []
    for turn in before:
        if turn.answer and turn.state != "failed":
            told += [
                {"role": "user", "content": turn.question},
                {"role": "assistant", "content": turn.answer},
            ]
    return [*told, {"role": "user", "content": last.question}]


async def answers(talk: Talk, answerer: Answerer) -> AsyncIterator[None]:
    """Have the last question of every pane answered; yields when there is something new to see."""
    talk.tickets, talk.stopping = {}, False
    asking = [asyncio.create_task(_ask(talk, place, answerer)) for place in range(len(talk.panes))]
    try:
        shown: object = None
        while True:
            over = all(task.done() for task in asking) and all(t.over for t in talk.tickets.values())
            for place, ticket in talk.tickets.items():
                _look(ticket, talk.panes[place].turns[-1])
            seen = [(pane.loading, vars(pane.turns[-1]).copy()) for pane in talk.panes]
            if seen != shown or over:
                shown = seen
                yield
            if over:
                return
            await asyncio.sleep(EVERY)
    finally:  # the reader may have gone
        talk.stop()


async def _ask(talk: Talk, place: int, answerer: Answerer) -> None:
    """Find the model, load it where needed, and put the question; a fault becomes the answer."""
    pane = talk.panes[place]
    turn = pane.turns[-1]

    def report(what: str) -> None:
        pane.loading = what

    def ask() -> Ticket:
        source = revisions.find(talk.names[place])
        return answerer.ask(source, messages(pane), turn.seed, report)

    report("looking for the adapter")
    try:
        ticket = await asyncio.to_thread(ask)
    except UserError as error:
        turn.state, turn.fault = "failed", str(error)
    except Exception:
        turn.state, turn.fault = "failed", FAULT
        traceback.print_exc()
    else:
        talk.tickets[place] = ticket
        if talk.stopping:  # while the model was loading
            ticket.stop()
    finally:
        pane.loading = ""


def _look(ticket: Ticket, turn: Turn) -> None:
    ticket.seen = time.monotonic()
    with ticket.changed:
        turn.state, turn.answer, turn.fault, turn.ahead = (
            ticket.state,
            ticket.text,
            ticket.fault,
            ticket.ahead,
        )
