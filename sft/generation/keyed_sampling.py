"""Sampling whose noise is keyed by (run, item, position), so a text does not depend on its batch.

Adding Gumbel noise to logits / temperature and taking the maximum samples from the softmax (Gumbel-max
trick: Maddison, Tarlow, Minka, "A* Sampling", 2014). Drawn from a shared generator, the noise of one
answer would change with whatever else is in the batch.
"""

from functools import cache, lru_cache
from typing import Any

import torch
import xxhash
from transformers import LogitsProcessor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _signed(value: int) -> int:
    """Fold an unsigned 64-bit number into torch's int64, whose arithmetic wraps around alike."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def key(seed: int, run: int, item: str) -> int:
    """Hash (seed, run, item) to an int64."""
    return _signed(xxhash.xxh3_64_intdigest(f"{seed}:{run}:{item}".encode()))


def _shift_xor(bits: torch.Tensor, by: int) -> torch.Tensor:
    return bits ^ ((bits >> by) & ((1 << (64 - by)) - 1))


def _splitmix(bits: torch.Tensor) -> torch.Tensor:
    """Scramble int64 counters (SplitMix64's finalizer: Steele, Lea, Flood, OOPSLA 2014)."""
    bits = _shift_xor(bits, 30) * _signed(_MIX_1)
    bits = _shift_xor(bits, 27) * _signed(_MIX_2)
    return _shift_xor(bits, 31)


def gumbel_noise(keys: torch.Tensor, positions: torch.Tensor | int, size: int) -> torch.Tensor:
    """Return standard Gumbel noise of shape (len(keys), size), float32, for one position of each key."""
    positions = torch.as_tensor(positions, dtype=torch.int64, device=keys.device)
    return _noise(keys, positions, _counters(size, keys.device))


@lru_cache(maxsize=4)
def _counters(size: int, device: torch.device) -> torch.Tensor:
    return torch.arange(1, size + 1, device=device, dtype=torch.int64) * _signed(_GOLDEN)


def _noise(keys: torch.Tensor, positions: torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    rows = _splitmix(keys + (positions + 1) * _signed(_GOLDEN))
    bits = _splitmix(rows[:, None] + counters[None, :])
    uniform = (((bits >> 11) & (2**53 - 1)).double() + 0.5) * 2.0**-53
    return (-torch.log(-torch.log(uniform))).float()


def _choose(
    scores: torch.Tensor,
    keys: torch.Tensor,
    positions: torch.Tensor,
    counters: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    return (scores.float() / temperature + _noise(keys, positions, counters)).argmax(-1)


@cache
def _fused() -> Any:
    """Compile _choose: step by step it takes some twenty passes over as many numbers as there are scores."""
    return torch.compile(_choose, dynamic=False)


def choose(
    scores: torch.Tensor, keys: torch.Tensor, positions: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Choose the next token of each row of scores (rows, vocabulary); `temperature` 0 takes the likeliest."""
    if temperature == 0:
        return scores.argmax(-1)
    chosen = _fused() if scores.device.type == "cuda" else _choose
    # The counters are handed in: as a part of what is compiled they would be computed in 32 bits.
    return chosen(scores, keys, positions, _counters(scores.shape[1], scores.device), temperature)


class KeyedGumbel(LogitsProcessor):
    """Turn greedy search into sampling at `temperature`, with noise keyed by row and position."""

    def __init__(self, keys: torch.Tensor, prompt_length: int, temperature: float) -> None:
        self.keys = keys
        self.prompt_length = prompt_length
        self.temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (rows, vocabulary) whose maximum is the sampled token."""
        position = input_ids.shape[1] - self.prompt_length
        return scores.float() / self.temperature + gumbel_noise(self.keys, position, scores.shape[1])
