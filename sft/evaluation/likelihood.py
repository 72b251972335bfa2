"""How likely a model finds an answer that it did not write: a metric without decoding noise."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from sft.core.errors import UserError
from sft.core.kept_results import LIKELIHOODS, KeptResults, key_of
from sft.core.row_schema import conversation
from sft.distributed.shares import Sharing
from sft.evaluation import tool_calls
from sft.modeling.chat_template import (
    EMPTY_THOUGHT,
    TemplateRefusal,
    encode,
    end_of_turn,
    prompt_ids,
    render,
)
from sft.modeling.thoughts import said
from sft.tasks.metric_names import MULTIPLE_CHOICE, TOOL_CALL
from sft.tasks.task import Task

TOKENS = 4096  # in a batch, padding included: a fixed number, so that every machine batches alike


class RefusedExample(UserError):
    """The chat template takes other examples, but not this one."""


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
    """An example's prompt and an answer as token ids; `counted` are the places of the answer's text.

    `bytes` are the text's, in UTF-8.
    """

    ids: list[int]
    counted: range
    bytes: int


def encoded(tokenizer: Any, task: Task, examples: Sequence[dict[str, Any]]) -> list[Encoded]:
    """Encode each of a task's examples: what keeps one from being scored shows here, before any is answered.

    The tokens of the reference's text count, and no others: not the token that ends the turn, nor what the
    chat template puts before the text. White space around a reference, which some templates strip, does not
    count either. Of a tool call the text is what the template makes of it. Where the row has thoughts before
    its answer, the answer is scored after them, as it is trained on.
    Raises UserError where the chat template never shows which tokens are the assistant's, and where a metric
    cannot read the template's tool calls; RefusedExample, naming it, for an example that the template
    refuses, does not show it in, or whose reference is empty.
    """
    rows = []
    for example in examples:
        with _named(task, example):
            calls = example.get("calls")
            rows.append(
                _encoded(tokenizer, example, json.loads(calls) if calls else example["references"][0])
            )
        if calls and TOOL_CALL in task.metrics:
            _check_readable(tokenizer, task, example, rows[-1])
    return rows


def _check_readable(tokenizer: Any, task: Task, example: dict[str, Any], row: Encoded) -> None:
    """Prove that the right calls, written as the template writes them, score 1."""
    start, stop = row.counted.start, row.counted.stop
    written = said(tokenizer, row.ids[:start], row.ids[start:stop]).marked
    if tool_calls.match([example["references"][:1]], [written]) != [1.0]:
        raise UserError(
            f"tasks.{task.name}.metrics: {TOOL_CALL} cannot read tool calls as the chat template of "
            f"{tokenizer.name_or_path} writes them: of the example {example['id']} it is {written[:200]!r}. "
            "Leave out the metric, or use another model or chat template."
        )


def encoded_choices(tokenizer: Any, task: Task, examples: Sequence[dict[str, Any]]) -> list[list[Encoded]]:
    """Encode the choices of each example of a task that scores them, as `encoded` does references.

    Of another task there are none.
    """
    if MULTIPLE_CHOICE not in task.metrics:
        return []
    rows = []
    for example in examples:
        with _named(task, example):
            rows.append([_encoded(tokenizer, example, choice) for choice in example["choices"]])
    return rows


@contextmanager
def _named(task: Task, example: dict[str, Any]) -> Iterator[None]:
    """Name the example that the chat template refuses."""
    try:
        yield
    except TemplateRefusal as error:
        raise RefusedExample(
            f"the example {example['id']} of the task {task.name!r} cannot be scored: {error}. Take it "
            f"out of {task.source}, or name another source under tasks.{task.name}."
        ) from error


def likelihoods(
    model: Any, tokenizer: Any, rows: Sequence[Encoded], kept: KeptResults | None = None
) -> list[Likelihood]:
    """Return the likelihood of each answer, after its prompt.

    What `kept` has is not computed, and what is computed it keeps, batch by batch.
    """
    return of_sums(rows, sums(model, tokenizer, rows, kept or KeptResults(), Sharing()))


def of_sums(rows: Sequence[Encoded], nats: Sequence[float]) -> list[Likelihood]:
    """Return the likelihoods whose summed nats are these."""
    return [Likelihood(total, len(row.counted), row.bytes) for total, row in zip(nats, rows, strict=True)]


@torch.inference_mode()
def sums(
    model: Any, tokenizer: Any, rows: Sequence[Encoded], kept: KeptResults, sharing: Sharing
) -> list[float]:
    """Return each answer's summed nats, 0 for those that are other ranks' by `sharing`, batch by batch."""
    found = [0.0] * len(rows)
    batches = _batches([len(row.ids) for row in rows])
    weights = [len(places) * max(len(rows[n].ids) for n in places) for places in batches]
    for places in (batches[place] for place in sharing.own(weights)):
        key = key_of([[rows[n].ids, rows[n].counted.start, rows[n].counted.stop] for n in places])
        if (before := kept.get(LIKELIHOODS, key)) is not None:
            for n, nats in zip(places, before, strict=True):
                found[n] = nats
            continue
        start = time.perf_counter()
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
            found[n] = cross_entropy(scores, ids[row, targets].to(model.device), reduction="sum").item()
        if all(math.isfinite(found[n]) for n in places):  # else the weights are to be mended
            kept.put(LIKELIHOODS, key, [found[n] for n in places], time.perf_counter() - start)
    return found


def right_choices(examples: Sequence[dict[str, Any]], choices: Sequence[Sequence[Likelihood]]) -> list[float]:
    """Return 1 for each example whose reference is the likeliest of its choices, else 0.

    The likelihood is the mean over a choice's characters, as in the acc_norm of EleutherAI's lm-eval: a sum
    would favour short choices. Of equally likely ones the first counts.
    """
    right = []
    for example, of_one in zip(examples, choices, strict=True):
        texts = [choice.strip() for choice in example["choices"]]
        nats = [likelihood.nats / len(text) for likelihood, text in zip(of_one, texts, strict=True)]
        right.append(float(texts[nats.index(min(nats))] == example["references"][0].strip()))
    return right


def _encoded(tokenizer: Any, example: dict[str, Any], answer: str | list[dict[str, Any]]) -> Encoded:
    """Encode an example's prompt with an answer to it: a text, or tool calls."""
    text = answer if isinstance(answer, str) else ""
    if not (text.strip() or isinstance(answer, list)):
        raise TemplateRefusal("its reference is empty")
    prompt, tools = conversation({"messages": example["prompt"], "tools": example.get("tools")})
    last: dict[str, Any] = {"role": "assistant", "content": text}
    if example.get("reasoning"):
        last["reasoning_content"] = example["reasoning"]
    if not isinstance(answer, str):
        last["tool_calls"] = answer
    messages = [*prompt, last]
    whole = encode(tokenizer, messages, tools=tools)
    start = len(prompt_ids(tokenizer, prompt, tools))  # earlier answers in the prompt do not count
    rendered = render(tokenizer, messages, tools=tools)
    offsets = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    begun = len(whole.input_ids) - len(offsets)  # a BOS that is none of the text
    ours = [n for n, learned in enumerate(whole.assistant_mask) if learned and n >= start]
    if not ours:
        raise TemplateRefusal("the chat template does not show which tokens are its reference's")
    at = offsets[ours[0] - begun][0] if whole.thoughts_end is None else whole.thoughts_end
    if isinstance(answer, str):
        counted = text.strip()
    else:
        ends = [n for n in ours if whole.input_ids[n] == end_of_turn(tokenizer)]
        stop = offsets[ends[-1] - begun][0] if ends else offsets[ours[-1] - begun][1]
        counted = EMPTY_THOUGHT.sub("", rendered[at:stop].strip())
    at = _place(counted, rendered, at)
    first = next(n for n, (_, stop) in enumerate(offsets) if stop > at)
    last_one = next(
        n for n, (begin, _) in enumerate([*offsets, (len(rendered), 0)]) if begin >= at + len(counted)
    )
    return Encoded(whole.input_ids, range(first + begun, last_one + begun), len(counted.encode()))


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
