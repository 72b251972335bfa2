"""Answering on an NVIDIA GPU: many texts at once, each step one CUDA graph, freed slots filled anew.

Step by step from Python, a small or medium model spends its time on launching kernels: some 40 ms a step
whatever the batch. Recorded as a graph, a step takes what the card takes.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sft.core.errors import UserError
from sft.generation import slot_cache
from sft.generation.keyed_sampling import choose
from sft.generation.slot_cache import Slots
from sft.modeling.architecture import head_width, scaled_logits
from sft.modeling.packed_attention import has_varlen
from sft.modeling.packing import pack

STEPS = 8  # between two looks at which texts have ended: a look waits for the device
PROMPT_TOKENS = 16_384  # prompts' tokens read in one pass
MOST_SLOTS = 1024
MEMORY_SHARE = 0.85
# Configurations of latent attention, and of experts, whose routing depends on the data.
UNUSUAL = ("kv_lora_rank", "num_experts", "num_local_experts", "n_routed_experts")


@dataclass
class Job:
    """A prompt's token ids (one at least), and one sampling key for each text to be written after it."""

    prompt: int
    ids: list[int]
    keys: list[int]


@dataclass
class Written:
    """The token ids of one text, with the one that ended it if one did."""

    prompt: int
    run: int
    ids: list[int]


def usable(model: Any) -> bool:
    """Tell whether this model, where and as it is loaded, can be decoded here."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        has_varlen(model.device, model.dtype, head_width(config))
        and getattr(config, "sliding_window", None) is None
        and getattr(config, "layer_types", None) in (None, ["full_attention"] * config.num_hidden_layers)
        and hasattr(config, "num_key_value_heads")
        and not any(getattr(config, name, None) for name in UNUSUAL)
        and not scaled_logits(config)
        and not any(type(module).__name__ == "Linear4bit" for module in model.modules())
        and rope.get("rope_type", "default") in ("default", "linear", "llama3", "yarn")
    )


def slots_that_fit(model: Any, length: int) -> int:
    """Return how many slots of `length` tokens fit the GPU's memory beside what is there."""
    config = model.config.get_text_config()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(model.device)
    room = free - int(total * (1 - MEMORY_SHARE))
    scores = 12 * config.vocab_size  # 16-bit and float32 scores, and room for their making
    return room // (length * slot_cache.bytes_a_token(config, model.dtype) + scores)


class Writer:
    """The state of all slots on the device, and the step that writes one more token in each."""

    def __init__(
        self,
        model: Any,
        count: int,
        length: int,
        stop_ids: list[int],
        temperature: float,
        max_new_tokens: int,
    ) -> None:
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.decoder, self.head = causal.base_model, causal.get_output_embeddings()
        self.device, self.temperature, self.max_new_tokens = model.device, temperature, max_new_tokens
        self.slots = Slots(model.config.get_text_config(), count, length, model.device, model.dtype)
        self.stops = torch.tensor(stop_ids, device=self.device)

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=self.device)

        self.first = torch.arange(count, device=self.device) * length
        # One column more than a text has tokens: what slots without a text write goes there.
        self.text = zeros(count, max_new_tokens + 1)
        self.token, self.position, self.written, self.key = (zeros(count) for _ in range(4))
        self.busy = torch.zeros(count, dtype=torch.bool, device=self.device)

    def step(self) -> None:
        """Read each slot's newest token, write the next one; slots that are not busy stay as they are."""
        torch.add(self.first, self.position, out=self.slots.places)
        self.slots.used.copy_(self.position + 1)
        hidden = self.decoder(
            input_ids=self.token[None], position_ids=self.position[None], use_cache=False, slots=self.slots
        ).last_hidden_state[0]
        chosen = choose(self.head(hidden), self.key, self.written, self.temperature)
        column = torch.where(self.busy, self.written, self.max_new_tokens)
        self.text.scatter_(1, column[:, None], chosen[:, None])
        self.written += self.busy
        self.position += self.busy
        self.token.copy_(torch.where(self.busy, chosen, self.token))
        # Not torch.isin: it sorts, which cannot be recorded.
        ended = (chosen[:, None] == self.stops).any(1) | (self.written >= self.max_new_tokens)
        self.busy &= ~ended

    def recorded(self) -> Callable[[], None]:
        """Return the step as a CUDA graph; on another device, the step itself."""
        if self.device.type != "cuda":
            return self.step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph.replay

    def begin(self, jobs: list[Job], places: list[list[int]]) -> None:
        """Read the jobs' prompts, all but the last token, and put each of their texts in its slot."""
        packed = [(job, held) for job, held in zip(jobs, places, strict=True) if len(job.ids) > 1]
        if packed:
            rows = [{"input_ids": job.ids[:-1], "labels": job.ids[:-1]} for job, _ in packed]
            copies = [
                np.concatenate(
                    [held[run] * self.slots.length + np.arange(len(job.ids) - 1) for job, held in packed]
                )
                for run in range(len(jobs[0].keys))
            ]
            self.slots.copies = torch.from_numpy(np.stack(copies)).to(self.device)
            self.decoder(**pack(rows, self.device).inputs(), slots=self.slots)
            self.slots.copies = None
        begun = torch.tensor([slot for held in places for slot in held], device=self.device)

        def values(of: Callable[[Job], list[int]]) -> torch.Tensor:
            return torch.tensor([value for job in jobs for value in of(job)], device=self.device)

        self.token[begun] = values(lambda job: [job.ids[-1]] * len(job.keys))
        self.position[begun] = values(lambda job: [len(job.ids) - 1] * len(job.keys))
        self.key[begun] = values(lambda job: job.keys)
        self.written[begun] = 0
        self.busy[begun] = True


@torch.inference_mode()
def write(
    model: Any,
    jobs: list[Job],
    stop_ids: list[int],
    *,
    temperature: float,
    max_new_tokens: int,
    most_slots: int,
) -> Iterable[list[Written]]:
    """Write the jobs' texts, in their order, and yield those that have ended since the last time.

    Every job has as many keys. `most_slots` texts at most are written at a time.
    Raises UserError where those do not fit the memory.
    """
    runs = len(jobs[0].keys)
    count = max(runs, min(len(jobs) * runs, most_slots))
    length = max(len(job.ids) for job in jobs) + max_new_tokens
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = causal.config._attn_implementation
    slot_cache.register()
    causal.set_attn_implementation(slot_cache.SLOTTED)
    try:
        try:
            writer = Writer(model, count, length, stop_ids, temperature, max_new_tokens)
            step = writer.recorded()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"out of memory: {count:,} texts of up to {length:,} tokens do not fit the GPU at a time. "
                "Set evaluate.batch_size to auto, or lower evaluate.runs or evaluate.max_new_tokens."
            ) from error
        waiting, free = deque(jobs), list(range(count))
        holds: dict[int, tuple[int, int]] = {}
        while waiting or holds:
            while waiting and len(free) >= runs:
                begun = _read_together(waiting, len(free) // runs)
                places = [[free.pop() for _ in range(runs)] for _ in begun]
                for job, held in zip(begun, places, strict=True):
                    holds |= {slot: (job.prompt, run) for run, slot in enumerate(held)}
                writer.begin(begun, places)
            for _ in range(STEPS):
                step()
            busy = writer.busy.tolist()
            ended = [slot for slot in holds if not busy[slot]]
            if ended:
                which = torch.tensor(ended, device=writer.device)
                texts, lengths = writer.text[which].tolist(), writer.written[which].tolist()
                yield [
                    Written(*holds.pop(slot), text[:length])
                    for slot, text, length in zip(ended, texts, lengths, strict=True)
                ]
                free += ended
    finally:
        causal.set_attn_implementation(before)


def _read_together(waiting: deque[Job], most: int) -> list[Job]:
    """Take the next jobs off `waiting`, `most` at most, whose prompts are read in one pass."""
    taken: list[Job] = []
    tokens = 0
    while waiting and len(taken) < most and (not taken or tokens + len(waiting[0].ids) <= PROMPT_TOKENS):
        tokens += len(waiting[0].ids)
        taken.append(waiting.popleft())
    return taken
