"""Answering prompts, several seeded runs each, with the first generator that can use the model."""

import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

from sft.core.kept_results import ANSWERS, KeptResults, key_of
from sft.distributed.shares import Sharing
from sft.generation import graph_decoder, transformers_generate
from sft.generation.decoding import decode, until_stop
from sft.generation.interface import BatchSize, Completion, Generator, Request
from sft.generation.keyed_sampling import key
from sft.modeling.thoughts import Said, said

GENERATORS: tuple[Generator, ...] = (graph_decoder, transformers_generate)  # the fastest first


@dataclass
class Prompt:
    """Token ids to continue, and the item that keys the sampling noise."""

    item: str
    ids: list[int]


@dataclass
class Answer:
    """One generated text: which prompt (by its place in the list) and run, and whether it ended by itself.

    `said` is the text without thoughts before it.
    """

    prompt: int
    run: int
    text: str
    tokens: int
    finished: bool
    said: Said


def generator_for(model: Any) -> Generator:
    """Return the generator to use for a model."""
    return next(generator for generator in GENERATORS if generator.usable(model))


def generate(
    model: Any,
    tokenizer: Any,
    stop_ids: list[int],
    prompts: list[Prompt],
    *,
    runs: int,
    seed: int,
    temperature: float,
    max_new_tokens: int,
    batch_size: BatchSize,
    kept: KeptResults | None = None,
    sharing: Sharing | None = None,
) -> Iterator[list[Answer]]:
    """Yield the answers as they are generated, `batch_size` prompts of similar length and all runs at a time.

    A prompt is read once for all of its runs. `temperature` 0 is greedy, so runs are equal. What `kept` has
    is not generated, and what is generated it keeps, group by group of the generator's. `sharing` says which
    of these are this rank's: it answers no others.
    Raises UserError where `batch_size` prompts do not fit the GPU's memory.
    """
    by_length = sorted(range(len(prompts)), key=lambda n: (-len(prompts[n].ids), prompts[n].item))
    requests = [
        Request(n, prompts[n].ids, [key(seed, run, prompts[n].item) for run in range(runs)])
        for n in by_length
    ]
    kept, generator, sharing = kept or KeptResults(), generator_for(model), sharing or Sharing()
    groups = generator.groups(model, requests, batch_size, sharing.ranks.count)
    weights = [sum(len(request.ids) + runs * max_new_tokens for request in group) for group in groups]
    for group in (groups[place] for place in sharing.own(weights)):
        asked = [astuple(request) for request in group]
        name = key_of(asked, stop_ids, temperature, max_new_tokens)
        if (before := kept.get(ANSWERS, name)) is not None:
            yield [
                _answer(tokenizer, stop_ids, prompts[prompt], Completion(prompt, run, ids))
                for prompt, run, ids in before
            ]
            continue
        start, finished = time.perf_counter(), []
        for completions in generator.generate(
            model,
            tokenizer,
            stop_ids,
            group,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
        ):
            finished += [astuple(one) for one in completions]
            yield [_answer(tokenizer, stop_ids, prompts[one.prompt], one) for one in completions]
        kept.put(ANSWERS, name, finished, time.perf_counter() - start)


def _answer(tokenizer: Any, stop_ids: list[int], prompt: Prompt, one: Completion) -> Answer:
    kept, ended = until_stop(one.ids, stop_ids)
    return Answer(
        one.prompt,
        one.run,
        decode(tokenizer, kept),
        tokens=len(kept) + ended,
        finished=ended,
        said=said(tokenizer, prompt.ids, kept),
    )
