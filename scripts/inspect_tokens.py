"""What training makes of a sample of rows: tokens, the loss mask, and what the chat template refuses."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from sft.core.params import Count, Params, Share
from sft.modeling.chat_template import Fallback, Thoughts
from sft.modeling.labels import IGNORED
from sft.training.refusals import Refusals
from sft.training.stored_rows import COLUMNS
from sft.training.tokenizing import RowShape, Tokenizing


class ShapeParams(Params):
    """`train`: how a conversation becomes a row, and the share of rows that the template may refuse."""

    max_length: Count
    too_long: Literal["truncate", "drop"]
    loss_on: Literal["assistant", "all"]
    reasoning: Thoughts
    reasoning_fallback: Fallback
    max_refused: Share


class Conversation(NamedTuple):
    """A conversation's whole token ids, and which of them are in the loss."""

    ids: list[int]
    in_loss: list[bool]


@dataclass
class Sample:
    """Conversations as training sees them before it cuts, and those that it leaves out whatever the limit.

    `without_loss` counts rows without a token in the loss. `thoughtless_turns` counts answers that are not in
    it because the template leaves out their thoughts.
    """

    conversations: list[Conversation] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)
    first_refused: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    without_loss: int = 0
    thoughtless_turns: int = 0

    @property
    def lengths(self) -> list[int]:
        """How many tokens each conversation has."""
        return [len(one.ids) for one in self.conversations]

    def loss_share(self, limit: int) -> float:
        """Return which share of each conversation's first `limit` tokens is in the loss, of all together."""
        tokens = sum(min(length, limit) for length in self.lengths)
        return sum(sum(one.in_loss[:limit]) for one in self.conversations) / tokens

    def without_loss_in(self, limit: int) -> int:
        """Count the rows with none of their first `limit` tokens in the loss."""
        return self.without_loss + sum(not any(one.in_loss[:limit]) for one in self.conversations)


def tokenized(rows: pa.Table, tokenizer: Any, params: ShapeParams) -> Sample:
    """Tokenize standardized rows as training does, whatever their length.

    Raises UserError where the template never tells the assistant's tokens from others.
    """
    found = Sample()
    shape = RowShape(sys.maxsize, "truncate", params.loss_on, params.reasoning, params.reasoning_fallback)
    tokenizing = Tokenizing(tokenizer, shape)
    for row in rows.select(COLUMNS).to_pylist():
        one = tokenizing.tokenize(row)
        found.thoughtless_turns += one.thoughtless_turns
        if one.refusal:
            found.refusals.add(row["id"], one.refusal)
            found.first_refused.setdefault(row["id"], row["messages"])
        elif isinstance(one.row, str):
            found.without_loss += 1
        else:
            ids, labels = one.row["input_ids"].tolist(), one.row["labels"]
            # The first token is never predicted.
            found.conversations.append(Conversation(ids, [False, *(labels[1:] != IGNORED).tolist()]))
    return found


def pieces(conversation: Conversation, tokenizer: Any, limit: int) -> Iterator[tuple[str, bool]]:
    """Yield the text of the first `limit` tokens in runs that are in the loss, or are not."""
    pairs = zip(conversation.ids[:limit], conversation.in_loss[:limit], strict=True)
    for in_loss, run in groupby(pairs, key=lambda pair: pair[1]):
        yield tokenizer.decode([token for token, _ in run], skip_special_tokens=False), in_loss
