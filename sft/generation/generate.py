"""Answering prompts in batches, several seeded runs each.

On an NVIDIA GPU by graph_decoder; elsewhere, and for what that cannot do, by transformers' generate.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import LogitsProcessorList

from sft.generation import graph_decoder
from sft.generation.keyed_sampling import KeyedGumbel, key


@dataclass
class Prompt:
    """Token ids to continue, and the item that keys the sampling noise."""

    item: str
    ids: list[int]


@dataclass
class Answer:
    """One generated text: which prompt (by its place in the list) and run, and whether it ended by itself."""

    prompt: int
    run: int
    text: str
    tokens: int
    finished: bool


PROMPTS = {"cpu": 16, "cuda": 64}  # answered at a time by transformers' generate, if not said otherwise


@torch.inference_mode()
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
    batch_size: int | Literal["auto"],
) -> Iterable[list[Answer]]:
    """Yield the answers as they are written, `batch_size` prompts of similar length and all runs at a time.

    A prompt is read once for all of its runs. `temperature` 0 is greedy, so runs are equal.
    """
    by_length = sorted(range(len(prompts)), key=lambda n: (-len(prompts[n].ids), prompts[n].item))
    if graph_decoder.usable(model):
        jobs = [
            graph_decoder.Job(n, prompts[n].ids, [key(seed, run, prompts[n].item) for run in range(runs)])
            for n in by_length
        ]
        longest = len(jobs[0].ids) + max_new_tokens
        fitting = min(graph_decoder.MOST_SLOTS, graph_decoder.slots_that_fit(model, longest))
        for texts in graph_decoder.write(
            model,
            jobs,
            stop_ids,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            most_slots=fitting if batch_size == "auto" else batch_size * runs,
        ):
            yield [_answer(tokenizer, stop_ids, text.prompt, text.run, text.ids) for text in texts]
        return
    batch_size = PROMPTS[model.device.type] if batch_size == "auto" else batch_size
    for start in range(0, len(by_length), batch_size):
        chosen = by_length[start : start + batch_size]
        yield _generate_batch(
            model, tokenizer, stop_ids, prompts, chosen, runs, seed, temperature, max_new_tokens
        )


def _generate_batch(
    model: Any,
    tokenizer: Any,
    stop_ids: list[int],
    prompts: list[Prompt],
    chosen: list[int],
    runs: int,
    seed: int,
    temperature: float,
    max_new_tokens: int,
) -> list[Answer]:
    longest = max(len(prompts[n].ids) for n in chosen)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(prompts[n].ids)) + prompts[n].ids for n in chosen])
    mask = torch.tensor([[0] * (longest - len(prompts[n].ids)) + [1] * len(prompts[n].ids) for n in chosen])
    ids, mask = ids.to(model.device), mask.to(model.device)

    cache = _read_prompts(model, ids, mask)
    cache.batch_repeat_interleave(runs)
    ids, mask = ids.repeat_interleave(runs, 0), mask.repeat_interleave(runs, 0)

    processors = LogitsProcessorList()
    if temperature > 0:
        keys = [key(seed, run, prompts[n].item) for n in chosen for run in range(runs)]
        processors.append(KeyedGumbel(torch.tensor(keys, device=model.device), longest, temperature))
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
    return [
        _answer(tokenizer, stop_ids, chosen[place // runs], place % runs, tokens)
        for place, tokens in enumerate(output[:, longest:].tolist())
    ]


def _answer(tokenizer: Any, stop_ids: list[int], prompt: int, run: int, tokens: list[int]) -> Answer:
    end = next((n for n, token in enumerate(tokens) if token in stop_ids), None)
    kept = tokens if end is None else tokens[:end]
    return Answer(
        prompt=prompt,
        run=run,
        text=tokenizer.decode(kept, skip_special_tokens=True).strip(),
        tokens=len(kept) + (end is not None),
        finished=end is not None,
    )


def _read_prompts(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """Run the model over all prompt tokens but the last, and return its key-value cache."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    if ids.shape[1] > 1:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return cache
