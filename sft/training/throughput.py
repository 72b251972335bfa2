"""How fast training was, once it had got going."""

from dataclasses import dataclass
from typing import Any

from sft.core import provenance
from sft.modeling.flops import Cost, utilisation
from sft.modeling.labels import Rows, loss_tokens

WARM_UP = 10  # steps


@dataclass
class Throughput:
    """Tokens a second and model FLOP utilisation; None where they are not known."""

    tokens_per_second: float | None
    model_flop_utilisation: float | None


def steady(rows: Rows, step_seconds: list[float], batch_size: int, model: Any, dtype: str) -> Throughput:
    """Return the throughput of the steps after the first WARM_UP, of none if the run ends there.

    The first steps measure memory, compile kernels and fill caches. What CUDA graphs are captured later
    counts.
    """
    if len(step_seconds) <= WARM_UP:
        return Throughput(None, None)
    counted = rows[WARM_UP * batch_size :]
    lengths, seconds = [len(row["input_ids"]) for row in counted], sum(step_seconds[WARM_UP:])
    flops = Cost.of(model).training(lengths, sum(loss_tokens(row["labels"]) for row in counted))
    used = utilisation(flops, seconds, provenance.device_name(), dtype)
    return Throughput(round(sum(lengths) / seconds, 1), used)
