"""How fast training was, once it had got going."""

from dataclasses import dataclass
from typing import Any

import psutil

from sft.core import provenance
from sft.modeling.flops import Cost, utilisation
from sft.modeling.labels import Rows, loss_tokens

WARM_UP = 10  # steps


@dataclass
class Throughput:
    """Tokens a second and model FLOP utilisation; None where they are not known."""

    tokens_per_second: float | None
    model_flop_utilisation: float | None


def steady(
    rows: Rows,
    step_seconds: list[float],
    resumed_at_steps: list[int],
    batch_size: int,
    model: Any,
    dtype: str,
    devices: int = 1,
) -> Throughput:
    """Return the throughput of all steps but the first WARM_UP of every run, of none if no step is left.

    The first steps measure memory, compile kernels and fill caches. What CUDA graphs are captured later
    counts. Tokens are those of all `devices`, whose operations utilisation is measured against.
    """
    warm_up = {begin + n for begin in (0, *resumed_at_steps) for n in range(WARM_UP)}
    counted = [step for step in range(len(step_seconds)) if step not in warm_up]
    if not counted:
        return Throughput(None, None)
    read = [row for step in counted for row in rows[step * batch_size : (step + 1) * batch_size]]
    lengths, seconds = [len(row["input_ids"]) for row in read], sum(step_seconds[step] for step in counted)
    flops = Cost.of(model).training(lengths, sum(loss_tokens(row["labels"]) for row in read))
    used = utilisation(flops / devices, seconds, provenance.device_name(), dtype)
    return Throughput(round(sum(lengths) / seconds, 1), used)


def memory_gib() -> float:
    """Return what this process holds now, in GiB: of the GPU's memory where there is one, else resident."""
    import torch

    held = torch.cuda.memory_reserved() if torch.cuda.is_available() else psutil.Process().memory_info().rss
    return round(held / 2**30, 3)
