"""Generating several texts at a time, token by token, each with its own adapter; texts join and leave.

Reading all weights for one token costs as much as for eight, so eight users together wait hardly longer than
one. Rows are padded on the left to one length; a row that joins reads its prompt alone first.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from sft.generation.compat import join_rows, keep_rows, rows_can_join
from sft.generation.decoding import read, until_stop
from sft.generation.keyed_sampling import choose

BASE = "__base__"  # PEFT's word for rows without an adapter


@dataclass(eq=False)
class Stream:
    """A text being generated: its prompt, its sampling key, what may end it, and the tokens so far."""

    prompt: list[int]
    adapter: str
    key: int
    temperature: float
    most_tokens: int
    ids: list[int] = field(default_factory=list)
    ended: bool = False  # by one of the model's stop tokens
    done: bool = False


class Batch:
    """The texts that one model is generating."""

    def __init__(self, model: Any, stop_ids: list[int]) -> None:
        self.model, self.stop_ids = model, set(stop_ids)
        self.streams: list[Stream] = []
        self.cache: Any = None
        self.mask = torch.zeros(0, 0, dtype=torch.int64)

    @property
    def joinable(self) -> bool:
        """Tell whether another text can join."""
        return not self.streams or rows_can_join(self.cache)

    def join(self, stream: Stream) -> None:
        """Read the text's prompt and generate its first token."""
        ids = torch.tensor([stream.prompt], device=self.model.device)
        cache: Any = DynamicCache(config=self.model.config)
        mask = torch.ones_like(ids)
        self._extend([stream], ids, mask, cache)
        if stream.done:
            return
        if not self.streams:
            self.streams, self.cache, self.mask = [stream], cache, mask
            return
        longest = max(self.mask.shape[1], mask.shape[1])
        join_rows(self.cache, cache, longest)
        self.mask = torch.cat([_padded(self.mask, longest), _padded(mask, longest)])
        self.streams.append(stream)

    def step(self) -> None:
        """Generate one more token of every text; those that are done then leave."""
        if not self.streams:
            return
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.streams), 1)], dim=1)
        ids = torch.tensor([[stream.ids[-1]] for stream in self.streams], device=self.model.device)
        self._extend(self.streams, ids, self.mask, self.cache)
        self.drop([stream for stream in self.streams if stream.done])

    def drop(self, leaving: list[Stream]) -> None:
        """Remove texts, whether they are done or not."""
        staying = [place for place, stream in enumerate(self.streams) if stream not in leaving]
        if len(staying) == len(self.streams):
            return
        self.streams = [self.streams[place] for place in staying]
        if not staying:
            self.cache = None
            return
        rows = torch.tensor(staying, device=self.mask.device)
        self.mask = self.mask[rows]
        padding = int((self.mask == 0).long().cumprod(1).sum(1).min())  # that no row needs any more
        self.mask = self.mask[:, padding:]
        keep_rows(self.cache, rows, padding)

    def _extend(self, streams: list[Stream], ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> None:
        """Read the newest tokens and add the next one to each text."""
        several = hasattr(self.model, "peft_config")
        adapters = {"adapter_names": [stream.adapter for stream in streams]} if several else {}
        scores = read(self.model, ids, mask, cache, **adapters)
        for row, stream in enumerate(streams):
            keys = torch.tensor([stream.key], device=scores.device)
            position = torch.tensor([len(stream.ids)], device=scores.device)
            token = int(choose(scores[row : row + 1], keys, position, stream.temperature))
            new, stream.ended = until_stop([token], self.stop_ids)
            stream.ids += new
            stream.done = stream.ended or len(stream.ids) >= stream.most_tokens


def _padded(mask: torch.Tensor, length: int) -> torch.Tensor:
    return pad(mask, (length - mask.shape[1], 0))
