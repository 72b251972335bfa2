"""What training makes of a sample of rows: tokens, the loss mask, and what the chat template refuses."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from sft.core.params import Count, Params
from sft.core.row_schema import conversation
from sft.modeling.chat_template import TemplateRefusal, encode


class ShapeParams(Params):
    """`train`: the length limit, what becomes of longer rows, and where the loss is."""

    max_length: Count
    too_long: Literal["truncate", "drop"]
    loss_on: Literal["assistant", "all"]


class Conversation(NamedTuple):
    """A conversation's whole token ids, and which of them are in the loss."""

    ids: list[int]
    in_loss: list[bool]


@dataclass
class Refused:
    """How many rows the template refuses for a reason, and the messages of the first."""

    rows: int
    first: list[dict[str, Any]]


@dataclass
class Sample:
    """Conversations as training sees them before it cuts, and by their reasons those the template refuses."""

    conversations: list[Conversation] = field(default_factory=list)
    refused: dict[str, Refused] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """How many tokens each conversation has."""
        return [len(one.ids) for one in self.conversations]

    def loss_share(self, limit: int) -> float:
        """Return which share of each conversation's first `limit` tokens is in the loss, of all together."""
        tokens = sum(min(length, limit) for length in self.lengths)
        return sum(sum(one.in_loss[:limit]) for one in self.conversations) / tokens

    def without_loss(self, limit: int) -> int:
        """Count the conversations with none of their first `limit` tokens in the loss."""
        return sum(not any(one.in_loss[:limit]) for one in self.conversations)


def encoded(rows: pa.Table, tokenizer: Any, loss_on: str) -> Sample:
    """Encode rows (columns id, messages and tools).

    Raises UserError where the template never tells the assistant's tokens from others.
    """
    found = Sample()
    for row in rows.to_pylist():
        try:
            messages, _ = conversation(row)
            one = encode(tokenizer, messages, mask=loss_on == "assistant")
        except TemplateRefusal as error:
            found.refused.setdefault(str(error), Refused(0, row["messages"])).rows += 1
            continue
        mask = one.assistant_mask if loss_on == "assistant" else [True] * len(one.input_ids)
        # The first token is never predicted.
        found.conversations.append(Conversation(one.input_ids, [False, *mask[1:]]))
    return found


def pieces(conversation: Conversation, tokenizer: Any, limit: int) -> Iterator[tuple[str, bool]]:
    """Yield the text of the first `limit` tokens in runs that are in the loss, or are not."""
    pairs = zip(conversation.ids[:limit], conversation.in_loss[:limit], strict=True)
    for in_loss, run in groupby(pairs, key=lambda pair: pair[1]):
        yield tokenizer.decode([token for token, _ in run], skip_special_tokens=False), in_loss
