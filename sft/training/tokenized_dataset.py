"""The training budget, and reading rows in seeded order as far as it goes, tokenizing what is read.

Every trainer looked at tokenizes the whole set first; 60 steps need not tokenize 300,000 rows.
"""

import itertools
import math
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from sft.core.errors import ParamError, UserError
from sft.core.params import Count, Number, parse_value
from sft.core.row_schema import take_rows
from sft.core.seeded_order import order_of_copies
from sft.modeling.chat_template import TemplateRefusal, encode
from sft.modeling.labels import IGNORED, loss_tokens

CHUNK = 256  # rows turned into Python objects at a time
# From this many rows on it pays to start processes: one core tokenizes some 1,000 short rows a second.
SHARED_OUT = 2000

Unit = Literal["steps", "epochs", "rows", "tokens"]
Row = dict[str, np.ndarray]
Tokenized = tuple[str, Row | str, bool]  # id; tokens, or why the row is left out; whether it was truncated


@dataclass(frozen=True)
class Budget:
    """How much to train: `amount` optimizer steps of `batch_size` rows, or epochs, rows or tokens.

    It is met in whole steps: the last one is filled up.
    """

    amount: float
    unit: Unit
    batch_size: int = 1

    @classmethod
    def parse(cls, text: str, batch_size: int) -> "Budget":
        """Read `60 steps`, `1.5 epochs`, `300k rows` or `2M tokens`; raise UserError for anything else."""
        number, _, word = text.strip().partition(" ")
        unit = word.strip().removesuffix("s") + "s"
        if unit not in get_args(Unit):
            raise ParamError(
                f"train.budget: {text!r} is not an amount and a unit, such as 60 steps, "
                "1 epoch, 300k rows or 2M tokens."
            )
        amount = parse_value(number, Number if unit == "epochs" else Count, "train.budget")
        if amount <= 0:
            raise ParamError(f"train.budget: {text!r} is not above 0.")
        return cls(amount, cast(Unit, unit), batch_size)

    def met(self, reading: "Reading", mix_rows: int) -> bool:
        """Tell whether what has been read is enough."""
        if len(reading.rows) % self.batch_size:
            return False
        done = {
            "steps": len(reading.rows) / self.batch_size,
            "epochs": reading.passed / mix_rows,
            "rows": len(reading.rows),
            "tokens": reading.tokens,
        }
        return done[self.unit] >= self.amount

    def rows_left(self, reading: "Reading", mix_rows: int, max_length: int) -> int:
        """Return how many more rows it takes at least, if none is left out."""
        if self.unit == "tokens":
            return math.ceil((self.amount - reading.tokens) / max_length)
        if self.unit == "epochs":
            return math.ceil(self.amount * mix_rows) - reading.passed
        return math.ceil(self.amount * (self.batch_size if self.unit == "steps" else 1)) - len(reading.rows)


@dataclass
class Reading:
    """Tokenized rows in the order in which training reads them, and an account of what was read.

    Each row has `input_ids` and `labels` of equal length, int32. `tokens` counts all of theirs, `passed`
    the rows of the mix that were gone through, those left out and those of further epochs included.
    """

    rows: list[Row] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tokens: int = 0
    passed: int = 0
    truncated: int = 0
    dropped: dict[str, int] = field(
        default_factory=lambda: {"too_long": 0, "no_loss_tokens": 0, "refused_by_template": 0}
    )

    @property
    def loss_tokens(self) -> int:
        """Count the tokens that the loss is taken over."""
        return sum(loss_tokens(row["labels"]) for row in self.rows)


@dataclass
class RowShape:
    """How a conversation becomes a row: its limit in tokens, what exceeds it, and where the loss is."""

    max_length: int
    too_long: Literal["truncate", "drop"]
    loss_on: Literal["assistant", "all"]


def read(mix: pa.Table, budget: Budget, tokenizer: Any, shape: RowShape, seed: int) -> Reading:
    """Tokenize rows of `mix` by hash(seed, epoch, id) until the usable ones meet the budget.

    When the mix is used up the next epoch begins, in another order. Many rows are shared out to all cores,
    with the same result: to forked processes, so call it before a model is loaded, whose threads and whose
    GPU are not for them. Raises UserError where no row of a whole epoch is usable.
    """
    return _read(mix, "mix rows", budget, tokenizer, shape, seed, epochs=itertools.count())


def read_validation(held_out: pa.Table, rows: int, tokenizer: Any, shape: RowShape, seed: int) -> Reading:
    """Tokenize rows of `held_out` by hash(seed, 0, id) until `rows` are usable, or there are no more.

    No row is read twice, so there may be fewer. Raises UserError where none is usable.
    """
    return _read(held_out, "validation rows", Budget(rows, "rows"), tokenizer, shape, seed, epochs=[0])


def _read(
    table: pa.Table,
    name: str,
    budget: Budget,
    tokenizer: Any,
    shape: RowShape,
    seed: int,
    epochs: Iterable[int],
) -> Reading:
    reading = Reading()
    reader = _Reader(table.select(["id", "messages"]).combine_chunks(), tokenizer, shape)
    total = None if budget.unit == "tokens" else budget.rows_left(reading, len(table), shape.max_length)
    with tqdm(total=total, desc=f"tokenizing {name}", unit="row", mininterval=1) as progress:
        for epoch in epochs:
            before = len(reading.rows)
            _read_epoch(reading, reader, budget, f"{seed}:{epoch}", progress)
            if len(reading.rows) == before:
                raise UserError(
                    f"none of the {len(table):,} {name} can be trained on: {reading.dropped}. "
                    f"Raise train.max_length (now {shape.max_length}), or look at the rows and the template."
                )
            if budget.met(reading, len(table)):
                break
    return reading


@dataclass
class _Reader:
    """What it takes to tokenize rows of the mix, in this process or in another."""

    mix: pa.Table
    tokenizer: Any
    shape: RowShape

    def tokenize(self, places: np.ndarray) -> Iterator[Tokenized]:
        """Tokenize the rows at these places of the mix, one after another."""
        for row in take_rows(self.mix, places).to_pylist():
            yield row["id"], *_labelled(row["messages"], self.tokenizer, self.shape)

    def chunks(self, ranked: np.ndarray, wanted: int) -> Iterator[Iterable[Tokenized]]:
        """Tokenize rows in the order of `ranked`, a chunk at a time, on all cores if many are `wanted`."""
        parts = [ranked[start : start + CHUNK] for start in range(0, len(ranked), CHUNK)]
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
        if min(wanted, len(ranked)) < SHARED_OUT or cores == 1:
            yield from map(self.tokenize, parts)
            return
        most = -(-wanted // CHUNK)  # of which none is in vain if no row is left out
        cores = min(cores, most, len(parts))
        # Forked processes have the rows and the tokenizer already; they touch no GPU.
        pool = ProcessPoolExecutor(cores, multiprocessing.get_context("fork"), _begin, (self,))
        try:
            for start in [0, *range(most, len(parts), cores)]:
                yield from pool.map(_tokenize, parts[start : start + (cores if start else most)])
        except BrokenProcessPool as error:
            raise UserError(
                "a process that tokenizes was killed, most likely because the machine ran out of memory. "
                "Close other programs, or lower train.budget."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_reader: _Reader  # of a process that tokenizes for another


def _begin(reader: _Reader) -> None:
    global _reader
    _reader = reader
    # The tokenizer's own threads do not live on in a forked process.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _tokenize(places: np.ndarray) -> list[Tokenized]:
    return list(_reader.tokenize(places))


def _read_epoch(reading: Reading, reader: _Reader, budget: Budget, seed: str, progress: Any) -> None:
    ranked = order_of_copies(seed, reader.mix["id"])
    wanted = budget.rows_left(reading, len(ranked), reader.shape.max_length)
    for number, chunk in enumerate(reader.chunks(ranked, max(1, wanted))):
        if not reading.rows and number * CHUNK >= max(10_000, 20 * wanted):
            return  # not one usable row among so many: the caller says why
        for name, row, truncated in chunk:
            reading.passed += 1
            if isinstance(row, str):
                reading.dropped[row] += 1
            else:
                reading.rows.append(row)
                reading.ids.append(name)
                reading.tokens += len(row["input_ids"])
                reading.truncated += truncated
                progress.update()
            if budget.met(reading, len(ranked)):
                return


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
