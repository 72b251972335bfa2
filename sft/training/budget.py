"""The training budget, and the account of what has been read of it."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

import numpy as np

from sft.core.errors import ParamError
from sft.core.params import Count, Number, parse_value
from sft.modeling.labels import loss_tokens
from sft.training.refusals import Refusals

# From so many rows on, their mean length is taken for that of those to come.
ENOUGH_FOR_A_MEAN = 256

Unit = Literal["steps", "epochs", "rows", "tokens"]
Row = dict[str, np.ndarray]


@dataclass
class Reading:
    """Tokenized rows in the order in which training reads them, and an account of what was read.

    Each row has `input_ids` and `labels` of equal length, int32; `ids` and `kinds` are the rows' own.
    `tokens` counts all of theirs, `passed` the rows of the mix that were gone through, those left out and
    those of further epochs included. `thoughtless_turns` are assistant's turns that are not in the loss
    because the chat template leaves out their thoughts.
    """

    rows: list[Row] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    tokens: int = 0
    passed: int = 0
    truncated: int = 0
    dropped: dict[str, int] = field(
        default_factory=lambda: {"too_long": 0, "no_loss_tokens": 0, "refused_by_template": 0}
    )
    refusals: Refusals = field(default_factory=Refusals)
    thoughtless_turns: int = 0

    @property
    def loss_tokens(self) -> int:
        """Count the tokens that the loss is taken over."""
        return sum(loss_tokens(row["labels"]) for row in self.rows)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Return how many rows of each kind were read, and how many of these are distinct."""
        read = Counter(self.kinds)
        distinct = Counter(kind for _, kind in set(zip(self.ids, self.kinds, strict=True)))
        return {kind: (read[kind], distinct[kind]) for kind in sorted(read)}


@dataclass(frozen=True)
class Budget:
    """How much to train: `amount` optimizer steps of `batch_size` rows, or epochs, rows or tokens.

    An epoch is as many rows as the mix has. The budget is met in whole steps: the last one is filled up.
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

    def met(self, reading: Reading, mix_rows: int) -> bool:
        """Tell whether what has been read is enough."""
        if not reading.rows or len(reading.rows) % self.batch_size:
            return False
        done = {
            "steps": len(reading.rows) / self.batch_size,
            "epochs": reading.passed / mix_rows,
            "rows": len(reading.rows),
            "tokens": reading.tokens,
        }
        return done[self.unit] >= self.amount

    def rows_left(self, reading: Reading, mix_rows: int, max_length: int) -> int:
        """Return how many more rows it takes at least, if none is left out.

        Of a budget in tokens it is nine tenths of what it takes by the mean length of the rows so far.
        """
        if self.unit == "tokens":
            left = self.amount - reading.tokens
            if len(reading.rows) < ENOUGH_FOR_A_MEAN:
                return math.ceil(left / max_length)
            return math.ceil(0.9 * left * len(reading.rows) / reading.tokens)
        if self.unit == "epochs":
            return math.ceil(self.amount * mix_rows) - reading.passed
        return math.ceil(self.amount * (self.batch_size if self.unit == "steps" else 1)) - len(reading.rows)
