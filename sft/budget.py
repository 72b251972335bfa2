"""Reading the mix in seeded order, only as far as the training budget goes, and tokenizing what is read.

Every trainer looked at tokenizes the whole set first; 60 steps need not tokenize 300,000 rows.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
from tqdm.auto import tqdm

from sft.errors import UserError
from sft.labels import IGNORED, loss_tokens
from sft.ranking import order
from sft.rows import taken
from sft.templates import TemplateRefusal, encode

CHUNK = 256  # rows turned into Python objects at a time


@dataclass
class Reading:
    """Tokenized rows in the order in which training reads them, and an account of what was read.

    Each row has `input_ids` and `labels` of equal length.
    """

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    truncated: int = 0
    dropped: dict[str, int] = field(
        default_factory=lambda: {"too_long": 0, "no_loss_tokens": 0, "refused_by_template": 0}
    )

    @property
    def tokens(self) -> int:
        """Count all tokens of the rows."""
        return sum(len(row["input_ids"]) for row in self.rows)

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


def read(mix: pa.Table, rows: int, tokenizer: Any, shape: RowShape, seed: int, name: str = "rows") -> Reading:
    """Tokenize rows of `mix` by hash(seed, epoch, id) until `rows` usable ones are found.

    When the mix is used up the next epoch begins, in another order. Raises UserError where no row of a
    whole epoch is usable.
    """
    reading = Reading()
    epoch = 0
    mix = mix.select(["id", "messages"]).combine_chunks()
    with tqdm(total=rows, desc=f"tokenizing {name}", unit="row", mininterval=1) as progress:
        while len(reading.rows) < rows:
            before = len(reading.rows)
            _read_epoch(reading, mix, rows, tokenizer, shape, f"{seed}:{epoch}", progress)
            if len(reading.rows) == before:
                raise UserError(
                    f"none of the {len(mix):,} {name} can be trained on: {reading.dropped}. "
                    f"Raise train.max_length (now {shape.max_length}), or look at the rows and the template."
                )
            epoch += 1
    return reading


def _read_epoch(
    reading: Reading, mix: pa.Table, rows: int, tokenizer: Any, shape: RowShape, seed: str, progress: Any
) -> None:
    ranked = order(seed, mix["id"])
    for start in range(0, len(ranked), CHUNK):
        if not reading.rows and start >= max(10_000, 20 * rows):
            return  # not one usable row among so many: the caller says why
        for row in taken(mix, ranked[start : start + CHUNK]).to_pylist():
            if len(reading.rows) == rows:
                return
            labelled = _labelled(reading, row["messages"], tokenizer, shape)
            if labelled:
                reading.rows.append(labelled)
                reading.ids.append(row["id"])
                progress.update()


def _labelled(
    reading: Reading, messages: list[dict], tokenizer: Any, shape: RowShape
) -> dict[str, list[int]] | None:
    """Tokenize one conversation, or count why it is left out."""
    on_assistant = shape.loss_on == "assistant"
    try:
        encoded = encode(tokenizer, messages, mask=on_assistant)
    except TemplateRefusal:
        reading.dropped["refused_by_template"] += 1
        return None
    ids = encoded.input_ids
    labels = (
        [token if ours else IGNORED for token, ours in zip(ids, encoded.assistant_mask, strict=True)]
        if on_assistant
        else list(ids)
    )
    too_long = len(ids) > shape.max_length
    if too_long and shape.too_long == "drop":
        reading.dropped["too_long"] += 1
        return None
    ids, labels = ids[: shape.max_length], labels[: shape.max_length]
    if not loss_tokens(labels):
        reading.dropped["no_loss_tokens"] += 1
        return None
    reading.truncated += too_long
    return {"input_ids": ids, "labels": labels}
