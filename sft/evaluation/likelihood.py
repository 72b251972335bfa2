"""How likely a model finds an answer that it did not write: a metric without decoding noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from sft.core.errors import UserError
from sft.modeling.chat_template import EMPTY_THOUGHT, TemplateRefusal, encode, prompt_ids, render
from sft.tasks.task import Task

TOKENS = 4096  # in a batch, padding included: a fixed number, so that every machine batches alike


@dataclass(frozen=True)
class Likelihood:
    """The summed negative log-likelihood of a text, in nats, and the text's tokens and UTF-8 bytes."""

    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """What the metric is: it does not depend on how a tokenizer splits the text."""
        return self.nats / (math.log(2) * self.bytes)

    @property
    def nll(self) -> float:
        """The mean over the tokens: comparable with that of a model of the same tokenizer only."""
        return self.nats / self.tokens


@dataclass(frozen=True)
class Encoded:
    """An example's prompt and first reference as token ids; `counted` are the places of the reference's text.

    `bytes` are the text's, in UTF-8.
    """

    ids: list[int]
    counted: range
    bytes: int


def encoded(tokenizer: Any, task: Task, examples: Sequence[dict[str, Any]]) -> list[Encoded]:
    """Encode each of a task's examples: what keeps one from being scored shows here, before any is answered.

    The tokens of the reference's text count, and no others: not the token that ends the turn, nor what the
    chat template puts before the text. White space around a reference, which some templates strip, does not
    count either.
    Raises UserError where the chat template never shows which tokens are the assistant's, and naming an
    example that it refuses, does not show it in, or whose reference is empty.
    """
    rows = []
    for example in examples:
        try:
            rows.append(_encoded(tokenizer, example))
        except TemplateRefusal as error:
            raise UserError(
                f"the example {example['id']} of the task {task.name!r} cannot be scored: {error}. Take it "
                f"out of {task.source}, or name another source under tasks.{task.name}."
            ) from error
    return rows


@torch.inference_mode()
def likelihoods(model: Any, tokenizer: Any, rows: Sequence[Encoded]) -> list[Likelihood]:
    """Return the likelihood of each example's first reference, after its prompt."""
    sums = [0.0] * len(rows)
    for places in _batches([len(row.ids) for row in rows]):
        longest = max(len(rows[n].ids) for n in places)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([rows[n].ids + [pad] * (longest - len(rows[n].ids)) for n in places])
        mask = torch.tensor([[1] * len(rows[n].ids) + [0] * (longest - len(rows[n].ids)) for n in places])
        logits = model(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False
        ).logits
        for row, n in enumerate(places):
            targets = torch.tensor(rows[n].counted)
            scores = logits[row, (targets - 1).to(model.device)].float()
            sums[n] = cross_entropy(scores, ids[row, targets].to(model.device), reduction="sum").item()
    return [Likelihood(nats, len(row.counted), row.bytes) for nats, row in zip(sums, rows, strict=True)]


def _encoded(tokenizer: Any, example: dict[str, Any]) -> Encoded:
    reference = example["references"][0].strip()
    if not reference:
        raise TemplateRefusal("its reference is empty")
    messages = [*example["prompt"], {"role": "assistant", "content": example["references"][0]}]
    whole = encode(tokenizer, messages)
    start = len(prompt_ids(tokenizer, example["prompt"]))  # earlier answers in the prompt do not count
    text = render(tokenizer, messages)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    begun = len(whole.input_ids) - len(offsets)  # a BOS that is none of the text
    answer = next(n for n, ours in enumerate(whole.assistant_mask) if ours and n >= start)
    at = _place(reference, text, offsets[answer - begun][0])
    first = next(n for n, (_, stop) in enumerate(offsets) if stop > at)
    last = next(n for n, (begin, _) in enumerate([*offsets, (len(text), 0)]) if begin >= at + len(reference))
    return Encoded(whole.input_ids, range(first + begun, last + begun), len(reference.encode()))


def _place(reference: str, text: str, start: int) -> int:
    """Return where the reference stands in the rendered text: where the answer starts, or a bit later.

    Templates may put white space or an empty thought before it.
    """
    rest = text[start:].lstrip()
    for left in (rest, EMPTY_THOUGHT.sub("", rest)):
        if left.startswith(reference):
            return len(text) - len(left)
    raise TemplateRefusal("the chat template changes its reference")


def _batches(lengths: list[int]) -> list[list[int]]:
    """Share rows of similar length out to batches of TOKENS tokens at most, one row at least."""
    batches: list[list[int]] = []
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= TOKENS:
            batches[-1].append(n)
        else:
            batches.append([n])
    return batches
