"""Counting operations: against a count by hand, and the cards' names."""

import pytest

from sft.modeling.flops import Cost, peak, utilisation
from tests.tiny import save_model
from tests.training.test_train import LORA, trainable


def test_cost_of_a_model(tmp_path):
    model, _ = trainable(save_model(tmp_path))
    cost = Cost.of(model)
    width, inner, layers = 16, 32, 2
    assert cost.layers == layers * (4 * width * width + 3 * width * inner)
    assert cost.head == width * model.config.vocab_size
    assert cost.lora == layers * 4 * 2 * LORA.r * width
    assert cost.lora == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert cost.attention == layers * width


def test_training():
    cost = Cost(layers=1000, head=500, lora=10, attention=7)
    # A row of 3 tokens has 6 pairs that attend, one of 2 has 3: forward 2 products, backward 4, of 2 each.
    assert cost.training([3, 2], 4) == 5 * (4 * 1000 + 6 * 10) + 4 * 4 * 500 + 12 * 7 * 9


def test_generating():
    cost = Cost(layers=1000, head=500, lora=10, attention=7)
    read = 4 * 2 * 1010 + 4 * 7 * 10
    # Two tokens after a prompt of 4: they attend to 5 and 6.
    assert cost.generating(4, [2]) == read + 2 * 2 * 1510 + 4 * 7 * 11
    assert cost.generating(4, [2, 2]) == read + 2 * (2 * 2 * 1510 + 4 * 7 * 11)


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("Tesla T4", 65e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", 125e12),
        ("cpu (x86_64, 2 threads)", None),
    ],
)
def test_peak(name, flops):
    assert peak(name) == flops


def test_utilisation():
    assert utilisation(989e12, 2, "NVIDIA H100 80GB HBM3", "bfloat16") == 0.5
    assert utilisation(989e12, 2, "NVIDIA H100 80GB HBM3", "float32") is None
    assert utilisation(1e12, 2, "cpu", "bfloat16") is None
