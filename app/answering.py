"""Answers, written by one thread for all users: whoever comes joins the texts that are being written.

A ticket stands for an answer: its reader looks at the text as it grows, and may stop it.
"""

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch

from app.loading import Loaded, NoAdapter, Report, Shelf
from app.prompts import MOST_TOKENS, Messages
from app.revisions import Source
from app.writing import Text
from sft.core.errors import UserError
from sft.generation.keyed_sampling import key
from sft.modeling.chat_template import TemplateRefusal, prompt_ids

MOST_AT_ONCE = 8
MOST_WAITING = 32
ABANDONED = 30.0  # seconds without a look at the ticket: its reader has gone

FAULT = "Something went wrong. Please try again."
TOO_MANY = "Many people are cooking just now. Please try again in a minute."

State = Literal["waiting", "writing", "ended", "cut off", "stopped", "failed"]


@dataclass(eq=False)
class Ticket:
    """An answer that is waited for: its state, the text so far, and the fault if it failed."""

    source: Source
    loaded: Loaded
    written: Text
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
        return self.state not in ("waiting", "writing")

    def stop(self) -> None:
        """End the answer where it is; the thread that writes it sees to it before its next token."""
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


class Answerer:
    """Takes questions from any thread; one thread of its own writes all answers."""

    def __init__(self, most_tokens: int = MOST_TOKENS) -> None:
        self.most_tokens = most_tokens
        self.shelf = Shelf()
        self.waiting: deque[Ticket] = deque()
        self.writing: list[Ticket] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    def ask(
        self,
        source: Source,
        messages: Messages,
        seed: int = 0,
        report: Report = lambda _: None,
        most_tokens: int | None = None,
    ) -> Ticket:
        """Begin an answer, after loading the model if need be, which `report` hears of.

        The same question with the same seed is answered alike. Raises UserError where the model cannot be
        had, the question does not fit it, or too many wait.
        """
        with self._news:
            if len(self.waiting) >= MOST_WAITING:
                raise UserError(TOO_MANY)
        most_tokens = most_tokens or self.most_tokens
        loaded = self.shelf.take(source, report)
        try:
            ids = _fitted(loaded, messages, most_tokens)
        except BaseException:
            self.shelf.release(loaded)
            raise
        noise = key(seed, 0, "\n".join(message["content"] for message in messages))
        text = Text(ids, "", noise, source.temperature, most_tokens)
        ticket = Ticket(source, loaded, text)
        with self._news:
            full = len(self.waiting) >= MOST_WAITING  # others came while the model was loading
            if not full:
                ticket.ahead = len(self.waiting)
                self.waiting.append(ticket)
                self._news.notify_all()
        if full:
            self.shelf.release(loaded)
            raise UserError(TOO_MANY)
        return ticket

    def _work(self) -> None:
        with torch.inference_mode():
            while True:
                with self._news:
                    while not (self.waiting or self.writing):
                        self._news.wait()
                self._turn()

    def _turn(self) -> None:
        """Let texts leave and join, and write one more token of each.

        A method of its own: a variable of the waiting thread's would keep a model in memory.
        """
        try:
            self._leave()
            self._admit()
        except Exception as error:  # this thread is everybody's: it goes on
            for loaded in {ticket.loaded for ticket in [*self.waiting, *self.writing]}:
                self._give_up(loaded, error)
        for loaded in {id(ticket.loaded): ticket.loaded for ticket in self.writing}.values():
            self._step(loaded)

    def _leave(self) -> None:
        """Take out what is stopped or has lost its reader."""
        now = time.monotonic()
        for ticket in [*self.waiting, *self.writing]:
            if ticket.stopping or now - ticket.seen > ABANDONED:
                ticket.loaded.batch.drop([ticket.written])
                self._end(ticket, "stopped")

    def _admit(self) -> None:
        """Let the first that wait join, as far as there is room."""
        while self.waiting and len(self.writing) < MOST_AT_ONCE:
            ticket = self.waiting[0]
            if not ticket.loaded.batch.joinable:
                break
            with self._news:
                self.waiting.popleft()
                for place, other in enumerate(self.waiting):
                    other.ahead = place
            self.writing.append(ticket)
            ticket.tell("writing")
            try:
                ticket.written.adapter = ticket.loaded.attach(ticket.source)
                ticket.loaded.batch.join(ticket.written)
                self._show(ticket)
            except NoAdapter as error:  # found before the model was touched
                self._end(ticket, "failed", fault=str(error))
            except Exception as error:
                self._give_up(ticket.loaded, error, ticket)

    def _step(self, loaded: Loaded) -> None:
        try:
            loaded.batch.step()
            for ticket in [ticket for ticket in self.writing if ticket.loaded is loaded]:
                self._show(ticket)
        except Exception as error:
            self._give_up(loaded, error)

    def _give_up(self, loaded: Loaded, error: Exception, cause: Ticket | None = None) -> None:
        """End the answers of a model that something went wrong with; the others go on."""
        if not isinstance(error, UserError):
            traceback.print_exception(error, file=sys.stderr)
        self.shelf.discard(loaded)
        loaded.batch.drop(list(loaded.batch.texts))
        # Those that wait have the spoilt model too.
        for ticket in [ticket for ticket in [*self.waiting, *self.writing] if ticket.loaded is loaded]:
            mine = ticket is cause and isinstance(error, UserError)
            self._end(ticket, "failed", fault=str(error) if mine else FAULT)

    def _show(self, ticket: Ticket) -> None:
        written = ticket.written
        text = ticket.loaded.tokenizer.decode(written.ids, skip_special_tokens=True).strip()
        if written.done:
            self._end(ticket, "ended" if written.ended else "cut off", text)
        else:
            ticket.tell("writing", text.rstrip("\ufffd"))  # the first bytes of a character yet to come

    def _end(self, ticket: Ticket, state: State, text: str | None = None, fault: str = "") -> None:
        with self._news:
            if ticket in self.waiting:
                self.waiting.remove(ticket)
        if ticket in self.writing:
            self.writing.remove(ticket)
        self.shelf.release(ticket.loaded)
        ticket.tell(state, text, fault)


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


def _fitted(loaded: Loaded, messages: Messages, most_tokens: int) -> list[int]:
    """Return the prompt's ids; of a long conversation, the first question, its answer and the latest ones."""
    messages = list(messages)
    room = loaded.context - most_tokens
    while True:
        try:
            ids = prompt_ids(loaded.tokenizer, messages)
        except TemplateRefusal as error:
            raise UserError(f"That cannot be asked: {error}.") from error
        if len(ids) <= room:
            return ids
        if len(messages) < 5:
            raise UserError("The conversation is too long for this model. Start a new recipe.")
        del messages[2:4]
