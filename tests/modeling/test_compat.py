"""What the model's code uses of other packages beyond their public interfaces is where it is looked for.

A test that fails after an update says what to look at in the new version.
"""

from types import SimpleNamespace

import pytest
from torch.nn.attention.varlen import varlen_attn

from sft.modeling import compat
from sft.modeling.loading import load_model
from sft.modeling.packed_attention import PACKED, register
from tests.tiny import save_model


def test_a_dequantized_model_can_be_saved(tmp_path):
    """tests/modeling/test_loading.py converts a real GGUF."""
    look = "transformers.PreTrainedModel.save_pretrained: by what does it tell that a model is quantized?"
    model = load_model(save_model(tmp_path / "base"), "float32", "cpu")
    model.config.quantization_config = SimpleNamespace(quant_method="gguf")
    model.hf_quantizer = SimpleNamespace(quantization_config=model.config.quantization_config)
    try:
        model.save_pretrained(tmp_path / "refused")
    except ValueError as error:
        assert "quantized" in str(error), look
    else:
        pytest.fail(look)
    compat.forget_quantization(model)
    model.save_pretrained(tmp_path / "again")
    assert "quantization_config" not in (tmp_path / "again" / "config.json").read_text(), look


def test_what_varlen_attention_is_asked(tmp_path):
    look = "torch.nn.attention.varlen.varlen_attn: how is it told to group heads, and to look back only?"
    compat.varlen_asks_for_grouping.cache_clear()
    assert compat.varlen_asks_for_grouping() == ("enable_gqa" in varlen_attn.__code__.co_varnames), look
    names = {*varlen_attn.__code__.co_varnames, "enable_gqa"}
    assert {"query", "key", "value", "scale", "window_size"} <= names, look


def test_the_attention_is_the_one_asked_for(tmp_path):
    register()
    model = load_model(save_model(tmp_path), "float32", "cpu", attention=PACKED)
    look = "transformers.AttentionInterface: does a model still take its attention by this name?"
    assert model.config._attn_implementation == PACKED, look
