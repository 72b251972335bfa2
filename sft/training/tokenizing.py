"""Rows to token ids and labels, one by one or many on all cores."""

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from sft.core.errors import UserError
from sft.core.row_schema import conversation
from sft.core.workers import end_with_parent
from sft.modeling.chat_template import Encoded, Fallback, TemplateRefusal, Thoughts, encode
from sft.modeling.labels import IGNORED, loss_tokens
from sft.training.budget import Row
from sft.training.refusals import Refusal

AHEAD = 4  # parts a process that are handed over before the first is back


class Tokenized(NamedTuple):
    """A row's id and kind, its tokens or why it is left out, and whether it was truncated.

    `refusal` is the template's, and `thoughtless_turns` those of its turns that are not in the loss because
    the template leaves out their thoughts.
    """

    id: str
    kind: str
    row: Row | str
    truncated: bool = False
    refusal: Refusal | None = None
    thoughtless_turns: int = 0


@dataclass
class RowShape:
    """How a conversation becomes a row: its limit in tokens, what exceeds it, and where the loss is.

    `reasoning` says whether the loss is over thoughts too, `fallback` what becomes of them where the chat
    template has no place for them.
    """

    max_length: int
    too_long: Literal["truncate", "drop"]
    loss_on: Literal["assistant", "all"]
    reasoning: Thoughts = "train"
    fallback: Fallback = "text"


class Tokenizing:
    """What it takes to tokenize rows of `id`, `kind`, `messages` and `tools`.

    A context: it ends the processes that it has started.
    """

    def __init__(self, tokenizer: Any, shape: RowShape) -> None:
        self.tokenizer, self.shape = tokenizer, shape
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Tokenizing":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def tokenize(self, row: dict[str, Any]) -> Tokenized:
        """Tokenize one row, given as a Python object."""
        return _labelled(row, self.tokenizer, self.shape)

    def shared_out(self, parts: Iterable[pa.Table]) -> Iterator[list[Tokenized]]:
        """Tokenize the rows of each part in turn, on all cores: in forked processes, a few parts ahead.

        Parts are no slices: these take all of their table along.

        Call it before a model is loaded, whose threads and whose GPU are not for them. Raises UserError
        where one of them is killed.
        """
        if self._pool is None:
            # Forked processes have the tokenizer already; they touch no GPU.
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(cores(), context, _begin, (self,))
        waiting: deque[Future[list[Tokenized]]] = deque()
        try:
            for part in parts:  # not by the pool's map, which takes all parts at once
                waiting.append(self._pool.submit(_tokenize, part))
                if len(waiting) == AHEAD * cores():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that tokenizes was killed, most likely because the machine ran out of memory. "
                "Close other programs, or lower train.budget."
            ) from error


def cores() -> int:
    """Return how many processes tokenize at once: one where processes cannot be forked."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


_of_process: Tokenizing  # in a process that tokenizes for another


def _begin(tokenizing: Tokenizing) -> None:
    global _of_process
    _of_process = tokenizing
    # The tokenizer's own threads do not live on in a forked process.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    end_with_parent()


def _tokenize(part: pa.Table) -> list[Tokenized]:
    return [_of_process.tokenize(row) for row in part.to_pylist()]


def _labelled(row: dict[str, Any], tokenizer: Any, shape: RowShape) -> Tokenized:
    """Tokenize one row, or say why it is left out."""
    name = (row["id"], row["kind"])
    try:
        encoded, in_loss = _encoded(row, tokenizer, shape)
    except TemplateRefusal as error:
        refusal = Refusal(error.reason, str(error), error.advice)
        return Tokenized(*name, "refused_by_template", refusal=refusal)
    ids = np.array(encoded.input_ids, dtype=np.int32)
    too_long = len(ids) > shape.max_length
    if too_long and shape.too_long == "drop":
        return Tokenized(*name, "too_long")
    labels = ids if in_loss is None else np.where(np.array(in_loss, dtype=bool), ids, IGNORED)
    ids, labels = ids[: shape.max_length], labels[: shape.max_length].astype(np.int32)
    if not loss_tokens(labels):
        return Tokenized(*name, "no_loss_tokens", too_long)
    tokens = {"input_ids": ids, "labels": labels}
    return Tokenized(*name, tokens, too_long, thoughtless_turns=encoded.thoughtless_turns)


def _encoded(row: dict[str, Any], tokenizer: Any, shape: RowShape) -> tuple[Encoded, list[bool] | None]:
    """Return a row's tokens, and which of them are in the loss; None where all are."""
    messages, tools = conversation(row)
    trained = [message["trained"] for message in row["messages"]]
    options: dict[str, Any] = {"tools": tools, "fallback": shape.fallback}
    if shape.loss_on == "assistant":
        encoded = encode(tokenizer, messages, True, **options, trained=trained, reasoning=shape.reasoning)
        return encoded, encoded.assistant_mask
    hidden = shape.reasoning == "mask" and any(message["reasoning"] for message in row["messages"])
    if not hidden and False not in trained:
        encoded = encode(tokenizer, messages, False, **options, reasoning=shape.reasoning)
        # Without their thoughts answers are not what was written.
        left = encoded.thoughtless
        return encoded, [not out for out in left] if left else None
    # All but those of the assistant's tokens that are to be left out.
    answers: Thoughts = "drop" if shape.reasoning == "drop" else "train"
    encoded = encode(tokenizer, messages, True, **options, reasoning=answers)
    learned = encode(tokenizer, messages, True, **options, trained=trained, reasoning=shape.reasoning)
    left = encoded.thoughtless or [False] * len(encoded.input_ids)
    both = zip(encoded.assistant_mask, learned.assistant_mask, left, strict=True)
    return encoded, [kept if ours else not out for ours, kept, out in both]
