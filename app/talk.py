"""One user's conversation: what is asked of which models, how it goes on, and how the page follows it."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from app import prompts
from app.backend import Backend
from app.card import Pane, Turn
from app.tickets import FAULT, Ticket
from sft.core.errors import UserError

EVERY = 0.15  # seconds between two looks at what has been generated
# Fetching and loading wait for networks and for one another; asyncio's own threads are as few as the cores.
_LOOKUPS = ThreadPoolExecutor(64, "look-up")
LEARNT_ENGLISH = "The model learnt from English recipes: what it makes of these names is a guess."


@dataclass
class Run:
    """Answers that are being generated: by their panes' places, their tickets; and whether to stop."""

    tickets: dict[int, Ticket] = field(default_factory=dict)
    stopping: bool = False

    def stop(self) -> None:
        """End what is being generated; what is there stays."""
        self.stopping = True
        for ticket in list(self.tickets.values()):
            ticket.stop()


class Talk:
    """The panes, one a model, and what is being generated in them; one run at a time."""

    def __init__(self) -> None:
        self.panes: list[Pane] = []
        self.names: list[str] = []
        self.run: Run | None = None

    @property
    def busy(self) -> bool:
        """Tell whether answers are being generated."""
        return self.run is not None

    def stop(self) -> None:
        """End what is being generated, if anything is."""
        if self.run:
            self.run.stop()

    def begin(self, wish: prompts.Wish, names: list[str], called: Callable[[str], str] = str) -> None:
        """Ask models for a recipe anew, whom the panes name as `called` does.

        Raises UserError for what cannot be asked.
        """
        self._check_free()
        (question,) = prompts.recipe(wish)
        remark = LEARNT_ENGLISH if prompts.other_script(wish.ingredients) else ""
        self.names = list(dict.fromkeys(names))
        self.panes = [Pane(called(name), [Turn(question["content"])], remark) for name in self.names]
        self.run = Run()

    def go_on(self, text: str) -> None:
        """Ask about the recipe; raises UserError where there is none yet, or no question."""
        self._check_free()
        if not self.panes or not any(pane.turns[-1].answer for pane in self.panes):
            raise UserError("There is no recipe to ask about yet. Write one first.")
        (question,) = prompts.follow_up([], text)
        for pane in self.panes:
            pane.turns.append(Turn(question["content"]))
        self.run = Run()

    def again(self) -> None:
        """Ask the last question once more, with other noise; raises UserError where there is none."""
        self._check_free()
        if not self.panes:
            raise UserError("There is nothing to write again yet. Write a recipe first.")
        for pane in self.panes:
            last = pane.turns[-1]
            pane.turns[-1] = Turn(last.question, seed=last.seed + 1)
        self.run = Run()

    def _check_free(self) -> None:
        """Two clicks in a moment are two events: the page greys its buttons only when the first has begun."""
        if self.busy:
            raise UserError("An answer is being generated. Stop it first, or wait for it.")


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


async def answers(talk: Talk, backend: Backend) -> AsyncIterator[None]:
    """Have the last question of every pane answered; yields when there is something new to see."""
    run = talk.run
    assert run
    turns = [pane.turns[-1] for pane in talk.panes]
    asking = [asyncio.create_task(_ask(run, talk, place, turn, backend)) for place, turn in enumerate(turns)]
    try:
        shown: object = None
        while True:
            # A look-up or a load cannot be interrupted; when it is done, the run may have ended.
            if run.stopping:
                for place, task in enumerate(asking):
                    if not task.done():
                        turns[place].state, talk.panes[place].loading = "stopped", ""
            over = all(task.done() or run.stopping for task in asking)
            over = over and all(ticket.over for ticket in run.tickets.values())
            for place, ticket in run.tickets.items():
                _look(ticket, turns[place])
            seen = [(pane.loading, vars(turn).copy()) for pane, turn in zip(talk.panes, turns, strict=True)]
            if seen != shown or over:
                shown = seen
                yield
            if over:
                return
            await asyncio.sleep(EVERY)
    finally:  # the reader may have gone; a run that is kept would keep its tickets' models in memory
        run.stop()
        talk.run = None


async def _ask(run: Run, talk: Talk, place: int, turn: Turn, backend: Backend) -> None:
    """Find the model, load it where needed, and put the question; a fault becomes the answer."""
    pane, name = talk.panes[place], talk.names[place]
    conversation = messages(pane)

    def report(what: str) -> None:
        if not run.stopping:
            pane.loading = what

    def ask() -> Ticket:
        return backend.ask(name, conversation, turn.seed, report)

    try:
        ticket = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, ask)
    except UserError as error:
        turn.state, turn.fault = "failed", str(error)
    except Exception:
        turn.state, turn.fault = "failed", FAULT
        traceback.print_exc()
    else:
        if run.stopping:  # while the model was loading
            ticket.stop()
        else:
            run.tickets[place] = ticket
    finally:
        if not run.stopping:
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
