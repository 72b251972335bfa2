"""Whether a processor computes bfloat16 natively; without, it is slower than float32."""

import sys
from collections.abc import Mapping
from typing import Any

ADVICE = (
    "bfloat16 is slow on this processor, which has neither AMX nor AVX512-BF16: "
    "model.dtype=float32 is faster here."
)


def bfloat16_is_slow(capabilities: Mapping[str, Any]) -> bool:
    """Tell by the flags that torch.cpu.get_capabilities() returns. Only x86-64 is judged."""
    native = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return capabilities.get("architecture") == "x86_64" and not native


def advise(dtype: str, device: str) -> None:
    """Print a line where a model's `dtype` is slow on the processor that it is to run on."""
    import torch

    if dtype == "bfloat16" and device == "cpu" and bfloat16_is_slow(torch.cpu.get_capabilities()):
        print(ADVICE, file=sys.stderr, flush=True)
