"""The account of a run: its peak of memory."""

import torch

from sft.core import provenance


def test_the_peak_outlives_a_new_count(monkeypatch):
    """Measuring begins torch's count anew; what was allocated before, such as in loading, still counts."""
    counted = [0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: counted[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: counted.__setitem__(0, 0))
    monkeypatch.setattr(provenance, "_peak_before", 0)
    peaks = []
    for allocated in (2, 5, 3, 6):
        counted[0] = allocated * 2**30
        provenance.restart_peak_memory()
        assert counted == [0]
        peaks.append(provenance.peak_memory_gib())
    assert peaks == [2, 5, 5, 6]
    counted[0] = 7 * 2**30
    assert provenance.peak_memory_gib() == 7
