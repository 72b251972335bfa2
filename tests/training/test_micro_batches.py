"""Measuring what fits the memory: on a stand-in for a GPU. tests/modeling/test_packing.py cuts steps."""

import pytest
import torch

from sft.core import provenance
from sft.training.micro_batches import tokens_that_fit

GIB = 2**30


class Card:
    """A GPU of 80 GiB on which a pass takes 1 GiB, and a MiB a token, beyond what is allocated for good."""

    def __init__(self, monkeypatch, model, peak):
        self.allocated, self.peak = model, peak
        for name, value in {
            "is_available": lambda: True,
            "current_device": lambda: 0,
            "mem_get_info": lambda _: (80 * GIB - self.allocated, 80 * GIB),
            "get_per_process_memory_fraction": lambda _: 1.0,
            "memory_reserved": lambda _: self.allocated,
            "memory_allocated": lambda _: self.allocated,
            "max_memory_allocated": lambda *_: self.peak,
            "reset_peak_memory_stats": lambda *_: setattr(self, "peak", self.allocated),
            "empty_cache": lambda: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(provenance, "_peak_before", 0)

    def loss_of(self, rows):
        tokens = sum(len(row["input_ids"]) for row in rows)
        self.peak = max(self.peak, self.allocated + GIB + tokens * 2**20)
        return torch.zeros((), requires_grad=True) * 1


@pytest.mark.parametrize(("loading", "expected"), [(20 * GIB, 20.0), (6 * GIB, 7.5)])
def test_measuring_keeps_the_peak_of_loading(monkeypatch, loading, expected):
    card = Card(monkeypatch, model=6 * GIB, peak=loading)
    row = {"input_ids": [0] * 256, "labels": [0] * 256}
    # Nine tenths of 80 GiB, less the model, what a pass takes once, and the optimizer's state.
    assert tokens_that_fit(card.loss_of, row, GIB // 12) == pytest.approx((72 - 6 - 1 - 1) * 1024, abs=2)
    assert provenance.peak_memory_gib() == expected
