"""Rows of a table to token ids and labels, one by one or many on all cores."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from sft.core.errors import UserError
from sft.core.row_schema import WIDE_MESSAGES, conversation, take_rows
from sft.modeling.chat_template import TemplateRefusal, encode
from sft.modeling.labels import IGNORED, loss_tokens
from sft.training.budget import Row


class Tokenized(NamedTuple):
    """A row's id and kind, its tokens or why it is left out, and whether it was truncated."""

    id: str
    kind: str
    row: Row | str
    truncated: bool


@dataclass
class RowShape:
    """How a conversation becomes a row: its limit in tokens, what exceeds it, and where the loss is."""

    max_length: int
    too_long: Literal["truncate", "drop"]
    loss_on: Literal["assistant", "all"]


class Tokenizing:
    """What it takes to tokenize rows of a table (`id`, `kind`, `messages`), by their places in it.

    A context: it ends the processes that it has started.
    """

    def __init__(self, table: pa.Table, tokenizer: Any, shape: RowShape) -> None:
        table = table.select(["id", "kind", "messages"]).combine_chunks()
        self.table = table.set_column(2, "messages", table["messages"].cast(WIDE_MESSAGES))
        self.tokenizer, self.shape = tokenizer, shape
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Tokenizing":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def rows(self, places: np.ndarray) -> list[dict[str, Any]]:
        """Take rows as Python objects."""
        return take_rows(self.table, places).to_pylist()

    def tokenize(self, row: dict[str, Any]) -> Tokenized:
        """Tokenize one of them."""
        messages, _ = conversation(row)
        return Tokenized(row["id"], row["kind"], *_labelled(messages, self.tokenizer, self.shape))

    def shared_out(self, parts: list[np.ndarray]) -> Iterator[list[Tokenized]]:
        """Tokenize the rows of each part in turn, on all cores: in forked processes.

        Call it before a model is loaded, whose threads and whose GPU are not for them. Raises UserError
        where one of them is killed.
        """
        if self._pool is None:
            # Forked processes have the rows and the tokenizer already; they touch no GPU.
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(cores(), context, _begin, (self,))
        try:
            yield from self._pool.map(_tokenize, parts)
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


def _tokenize(places: np.ndarray) -> list[Tokenized]:
    return [_of_process.tokenize(row) for row in _of_process.rows(places)]


def _labelled(messages: list[dict], tokenizer: Any, shape: RowShape) -> tuple[Row | str, bool]:
    """Tokenize one conversation, or say why it is left out; and tell whether it was truncated."""
    on_assistant = shape.loss_on == "assistant"
    try:
        encoded = encode(tokenizer, messages, mask=on_assistant)
    except TemplateRefusal:
        return "refused_by_template", False
    ids = np.array(encoded.input_ids, dtype=np.int32)
    too_long = len(ids) > shape.max_length
    if too_long and shape.too_long == "drop":
        return "too_long", False
    labels = np.where(np.array(encoded.assistant_mask, dtype=bool), ids, IGNORED) if on_assistant else ids
    ids, labels = ids[: shape.max_length], labels[: shape.max_length].astype(np.int32)
    if not loss_tokens(labels):
        return "no_loss_tokens", False
    return {"input_ids": ids, "labels": labels}, too_long
