"""Generating on an NVIDIA GPU: many texts at once, each step one CUDA graph, freed slots filled anew.

Step by step from Python, a small or medium model spends its time on launching kernels: some 40 ms a step
whatever the batch. Captured as a graph, a step takes what the card takes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from sft.core.errors import UserError
from sft.generation import slot_cache
from sft.generation.compat import attention_implementation, has_4bit_layers
from sft.generation.interface import BatchSize, Completion, Request
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


def usable(model: Any) -> bool:
    """Tell whether this model can be used, where and as it is loaded."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        has_varlen(model.device, model.dtype, head_width(config))
        and getattr(config, "sliding_window", None) is None
        and getattr(config, "layer_types", None) in (None, ["full_attention"] * config.num_hidden_layers)
        and hasattr(config, "num_key_value_heads")
        and not any(getattr(config, name, None) for name in UNUSUAL)
        and not scaled_logits(config)
        and not has_4bit_layers(model)
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


class SlotDecoder:
    """The state of all slots on the device, and the step that generates one more token in each."""

    def __init__(
        self,
        model: Any,
        count: int,
        length: int,
        stop_ids: list[int],
        temperature: float,
        max_new_tokens: int,
    ) -> None:
        causal = _without_adapter_wrapper(model)
        self.decoder, self.head = causal.base_model, causal.get_output_embeddings()
        self.device, self.temperature, self.max_new_tokens = model.device, temperature, max_new_tokens
        self.slots = Slots(model.config.get_text_config(), count, length, model.device, model.dtype)
        self.stops = torch.tensor(stop_ids, device=self.device)

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=self.device)

        self.offsets = torch.arange(count, device=self.device) * length
        # One column more than a text has tokens: what slots without a text choose goes there.
        self.texts = zeros(count, max_new_tokens + 1)
        self.token, self.position, self.generated, self.key = (zeros(count) for _ in range(4))
        self.active = torch.zeros(count, dtype=torch.bool, device=self.device)

    def step(self) -> None:
        """Read each slot's newest token and choose the next one; inactive slots stay as they are."""
        torch.add(self.offsets, self.position, out=self.slots.places)
        self.slots.used.copy_(self.position + 1)
        hidden = self.decoder(
            input_ids=self.token[None], position_ids=self.position[None], use_cache=False, slots=self.slots
        ).last_hidden_state[0]
        chosen = choose(self.head(hidden), self.key, self.generated, self.temperature)
        column = torch.where(self.active, self.generated, self.max_new_tokens)
        self.texts.scatter_(1, column[:, None], chosen[:, None])
        self.generated += self.active
        self.position += self.active
        self.token.copy_(torch.where(self.active, chosen, self.token))
        # Not torch.isin: it sorts, which cannot be captured.
        ended = (chosen[:, None] == self.stops).any(1) | (self.generated >= self.max_new_tokens)
        self.active &= ~ended

    def captured(self) -> Callable[[], None]:
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

    def begin(self, requests: list[Request], slots: list[list[int]]) -> None:
        """Read the requests' prompts, all but the last token, and give each of their texts its slot."""
        packed = [(one, own) for one, own in zip(requests, slots, strict=True) if len(one.ids) > 1]
        if packed:
            rows = [{"input_ids": one.ids[:-1], "labels": one.ids[:-1]} for one, _ in packed]
            copies = [
                np.concatenate(
                    [own[run] * self.slots.length + np.arange(len(one.ids) - 1) for one, own in packed]
                )
                for run in range(len(requests[0].keys))
            ]
            self.slots.copies = torch.from_numpy(np.stack(copies)).to(self.device)
            self.decoder(**pack(rows, self.device).inputs(), slots=self.slots)
            self.slots.copies = None
        begun = torch.tensor([slot for own in slots for slot in own], device=self.device)

        def values(of: Callable[[Request], list[int]]) -> torch.Tensor:
            return torch.tensor([value for one in requests for value in of(one)], device=self.device)

        self.token[begun] = values(lambda one: [one.ids[-1]] * len(one.keys))
        self.position[begun] = values(lambda one: [len(one.ids) - 1] * len(one.keys))
        self.key[begun] = values(lambda one: one.keys)
        self.generated[begun] = 0
        self.active[begun] = True


def groups(model: Any, requests: list[Request], batch_size: BatchSize, ranks: int = 1) -> list[list[Request]]:
    """Keep a rank's requests together: which texts share a step depends on when the others have ended.

    Of several ranks each gets as many, of similar lengths.
    """
    return [group for rank in range(ranks) if (group := requests[rank::ranks])]


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
    """Yield the completions that have ended since the last time; requests begin in their order.

    Auto generates as many texts at a time as fit the memory, 1,024 at most. Raises UserError where the texts
    of `batch_size` requests do not fit.
    """
    runs = len(requests[0].keys)
    length = max(len(request.ids) for request in requests) + max_new_tokens
    fitting = min(MOST_SLOTS, slots_that_fit(model, length)) if batch_size == "auto" else batch_size * runs
    count = max(runs, min(len(requests) * runs, fitting))
    slot_cache.register()
    with attention_implementation(_without_adapter_wrapper(model), slot_cache.SLOTTED):
        try:
            decoder = SlotDecoder(model, count, length, stop_ids, temperature, max_new_tokens)
            step = decoder.captured()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"out of memory: {count:,} texts of up to {length:,} tokens do not fit the GPU at a time. "
                "Set evaluate.batch_size to auto, or lower evaluate.runs or a task's max_new_tokens."
            ) from error
        waiting, free = deque(requests), list(range(count))
        in_slot: dict[int, tuple[int, int]] = {}  # slot: prompt and run
        while waiting or in_slot:
            while waiting and len(free) >= runs:
                begun = _read_together(waiting, len(free) // runs)
                slots = [[free.pop() for _ in range(runs)] for _ in begun]
                for request, own in zip(begun, slots, strict=True):
                    in_slot |= {slot: (request.prompt, run) for run, slot in enumerate(own)}
                decoder.begin(begun, slots)
            for _ in range(STEPS):
                step()
            active = decoder.active.tolist()
            ended = [slot for slot in in_slot if not active[slot]]
            if ended:
                rows = torch.tensor(ended, device=decoder.device)
                texts, lengths = decoder.texts[rows].tolist(), decoder.generated[rows].tolist()
                yield [
                    Completion(*in_slot.pop(slot), text[:length])
                    for slot, text, length in zip(ended, texts, lengths, strict=True)
                ]
                free += ended


def _without_adapter_wrapper(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _read_together(waiting: deque[Request], most: int) -> list[Request]:
    """Remove the next requests from `waiting`, `most` at most, whose prompts are read in one pass."""
    removed: list[Request] = []
    tokens = 0
    while waiting and len(removed) < most and (not removed or tokens + len(waiting[0].ids) <= PROMPT_TOKENS):
        tokens += len(waiting[0].ids)
        removed.append(waiting.popleft())
    return removed
