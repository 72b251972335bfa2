"""Generating with transformers' generate: any model on any device, batch by batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from sft.generation.decoding import read, until_stop
from sft.generation.interface import BatchSize, Completion, Request
from sft.generation.keyed_sampling import KeyedGumbel

AUTO = {"cpu": 16, "cuda": 64}  # prompts in a batch where `batch_size` is auto


def usable(model: Any) -> bool:
    """Tell that every model can be used."""
    return True


def groups(model: Any, requests: list[Request], batch_size: BatchSize, ranks: int = 1) -> list[list[Request]]:
    """Divide the requests into batches, the same for any number of ranks: so the texts are the same."""
    size = AUTO[model.device.type] if batch_size == "auto" else batch_size
    return [requests[start : start + size] for start in range(0, len(requests), size)]


@torch.inference_mode()
def generate(
    model: Any,
    tokenizer: Any,
    stop_ids: list[int],
    requests: list[Request],
    *,
    temperature: float,
    max_new_tokens: int,
    batch_size: BatchSize,
) -> Iterator[list[Completion]]:
    """Yield the completions of `batch_size` requests at a time: 16 on a CPU and 64 on a GPU for auto."""
    for batch in groups(model, requests, batch_size):
        yield _batch(model, tokenizer.pad_token_id, stop_ids, batch, temperature, max_new_tokens)


def _batch(
    model: Any,
    pad: int,
    stop_ids: list[int],
    requests: list[Request],
    temperature: float,
    max_new_tokens: int,
) -> list[Completion]:
    longest, runs = max(len(request.ids) for request in requests), len(requests[0].keys)
    paddings = [longest - len(request.ids) for request in requests]
    rows = list(zip(paddings, requests, strict=True))
    ids = torch.tensor([[pad] * padding + request.ids for padding, request in rows])
    mask = torch.tensor([[0] * padding + [1] * len(request.ids) for padding, request in rows])
    ids, mask = ids.to(model.device), mask.to(model.device)

    # All prompt tokens but the last, which generate reads; once for all runs.
    cache: Any = DynamicCache(config=model.config)
    if longest > 1:
        read(model, ids[:, :-1], mask[:, :-1], cache)
    cache.batch_repeat_interleave(runs)
    ids, mask = ids.repeat_interleave(runs, 0), mask.repeat_interleave(runs, 0)

    processors = LogitsProcessorList()
    if temperature > 0:
        keys = torch.tensor([key for request in requests for key in request.keys], device=model.device)
        processors.append(KeyedGumbel(keys, longest, temperature))
    with _no_settings_of_its_own(model):
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            logits_processor=processors,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=stop_ids,
            pad_token_id=pad,
        )
    texts = iter(output[:, longest:].tolist())
    return [
        Completion(request.prompt, run, _with_stop(next(texts), stop_ids))
        for request in requests
        for run in range(runs)
    ]


@contextmanager
def _no_settings_of_its_own(model: Any) -> Iterator[None]:
    """Leave out what the model's generation_config.json says while texts are generated.

    generate takes from there whatever it is not given: a penalty for repetitions, say, which the other way of
    generating does not know, and a length, of which it warns at every batch.
    """
    brought = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = brought


def _with_stop(ids: list[int], stop_ids: list[int]) -> list[int]:
    """Leave out the padding after the token that ended a text."""
    kept, ended = until_stop(ids, stop_ids)
    return ids[: len(kept) + ended]
