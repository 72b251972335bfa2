"""Where bfloat16 is slow, the stages that run the model say so."""

import pytest
import torch

from sft.modeling import cpu_speed
from sft.modeling.loading import load_model
from tests.tiny import save_model

FLAGS = {"architecture": "x86_64", "avx2": True, "avx512_f": True, "amx_tile": False}


@pytest.mark.parametrize(
    ("flags", "slow"),
    [
        ({"amx_bf16": False, "avx512_bf16": False}, True),
        ({}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, False),
        ({"amx_bf16": False, "avx512_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_processors(flags, slow):
    assert cpu_speed.bfloat16_is_slow(FLAGS | flags) == slow


def test_torch_has_these_flags():
    look = "torch.cpu.get_capabilities: what are AMX and AVX512-BF16 called?"
    found = torch.cpu.get_capabilities()
    assert found["architecture"] != "x86_64" or {"amx_bf16", "avx512_bf16"} <= set(found), look


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("native", [True, False])
def test_a_line_says_so(tmp_path, monkeypatch, capsys, dtype, native):
    resolved = save_model(tmp_path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: FLAGS | {"avx512_bf16": native})
    load_model(resolved, dtype, "cpu")
    said = capsys.readouterr().err.count(cpu_speed.ADVICE)
    assert said == (dtype == "bfloat16" and not native)
