"""Writing several texts at a time, each with its own adapter; texts join and leave while others go on.

Reading all weights for one token costs as much as for eight, so eight users together wait hardly longer than
one. Rows are padded on the left to one length; a row that joins reads its prompt alone first.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from sft.generation.keyed_sampling import choose

BASE = "__base__"  # PEFT's word for rows without an adapter


@dataclass(eq=False)
class Text:
    """A text being written: its prompt, what may end it, the key of its noise, and the tokens so far."""

    prompt: list[int]
    adapter: str
    key: int
    temperature: float
    most_tokens: int
    ids: list[int] = field(default_factory=list)
    ended: bool = False  # by one of the model's stop tokens
    done: bool = False


class Batch:
    """The texts that one model is writing."""

    def __init__(self, model: Any, stop_ids: list[int]) -> None:
        self.model, self.stop_ids = model, set(stop_ids)
        self.texts: list[Text] = []
        self.cache: Any = None
        self.mask = torch.zeros(0, 0, dtype=torch.int64)

    @property
    def joinable(self) -> bool:
        """Tell whether another text can join: caches with windows or states cannot be put together."""
        return not self.texts or all(type(layer) is DynamicLayer for layer in self.cache.layers)

    def join(self, text: Text) -> None:
        """Read the text's prompt and write its first token."""
        ids = torch.tensor([text.prompt], device=self.model.device)
        cache: Any = DynamicCache(config=self.model.config)
        mask = torch.ones_like(ids)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        self._write([text], self._scores(ids, mask, positions, cache, [text]))
        if text.done:
            return
        if not self.texts:
            self.texts, self.cache, self.mask = [text], cache, mask
            return
        longest = max(self.mask.shape[1], mask.shape[1])
        for layer, new in zip(self.cache.layers, cache.layers, strict=True):
            layer.keys = torch.cat([_padded(layer.keys, longest), _padded(new.keys, longest)])
            layer.values = torch.cat([_padded(layer.values, longest), _padded(new.values, longest)])
        self.mask = torch.cat([_padded_mask(self.mask, longest), _padded_mask(mask, longest)])
        self.texts.append(text)

    def step(self) -> None:
        """Write one more token of every text; those that are done then leave."""
        if not self.texts:
            return
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.texts), 1)], dim=1)
        ids = torch.tensor([[text.ids[-1]] for text in self.texts], device=self.model.device)
        positions = self.mask.sum(1, keepdim=True) - 1
        self._write(self.texts, self._scores(ids, self.mask, positions, self.cache, self.texts))
        self.drop([text for text in self.texts if text.done])

    def drop(self, leaving: list[Text]) -> None:
        """Take texts out, whether they are done or not."""
        kept = [place for place, text in enumerate(self.texts) if text not in leaving]
        if len(kept) == len(self.texts):
            return
        self.texts = [self.texts[place] for place in kept]
        if not kept:
            self.cache = None
            return
        rows = torch.tensor(kept, device=self.mask.device)
        self.mask = self.mask[rows]
        padding = int((self.mask == 0).long().cumprod(1).sum(1).min())  # that no row needs any more
        self.mask = self.mask[:, padding:]
        for layer in self.cache.layers:
            layer.batch_select_indices(rows)
            if padding:
                layer.keys = layer.keys[:, :, padding:].contiguous()
                layer.values = layer.values[:, :, padding:].contiguous()

    def _scores(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any, texts: list[Text]
    ) -> torch.Tensor:
        """Return the scores (rows, vocabulary) of the next tokens."""
        named = hasattr(self.model, "peft_config")
        adapters = {"adapter_names": [text.adapter for text in texts]} if named else {}
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **adapters,
        )
        return output.logits[:, -1]

    def _write(self, texts: list[Text], scores: torch.Tensor) -> None:
        for row, text in enumerate(texts):
            keys = torch.tensor([text.key], device=scores.device)
            position = torch.tensor([len(text.ids)], device=scores.device)
            token = int(choose(scores[row : row + 1], keys, position, text.temperature))
            text.ended = token in self.stop_ids
            if not text.ended:
                text.ids.append(token)
            text.done = text.ended or len(text.ids) >= text.most_tokens


def _padded(states: torch.Tensor, length: int) -> torch.Tensor:
    """Pad keys or values (rows, heads, tokens, width) on the left to `length` tokens."""
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[2], 0))


def _padded_mask(mask: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (length - mask.shape[1], 0))
