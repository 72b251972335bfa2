"""Which tokens the loss is taken over."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]  # tokenized: each has `input_ids` and `labels`, arrays or lists
IGNORED = -100  # the label that the loss leaves out (torch.nn.CrossEntropyLoss's ignore_index)


def loss_tokens(labels: Sequence[int] | np.ndarray) -> int:
    """Count a row's tokens that the loss is taken over; the first token is never predicted."""
    return int(np.count_nonzero(np.asarray(labels[1:]) != IGNORED))
