"""Which tokens the loss is taken over."""

from collections.abc import Sequence

import numpy as np

IGNORED = -100  # the label that the loss leaves out (torch.nn.CrossEntropyLoss's ignore_index)


def loss_tokens(labels: Sequence[int]) -> int:
    """Count a row's tokens that the loss is taken over; the first token is never predicted."""
    return int(np.count_nonzero(np.asarray(labels[1:]) != IGNORED))
