"""What generation relies on in its packages without their promise: is it still there, and alike?"""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, MistralConfig

from sft.generation import compat

LOOK_AT = "changed in this version: see {} and mend sft/generation/compat.py"


def test_the_flash_attention_operator():
    where = LOOK_AT.format("_varlen_attn in torch/nn/attention/varlen.py, how it calls the operator")
    operator = getattr(torch.ops.aten, "_flash_attention_forward", None)
    assert operator is not None, where
    names = [argument.name for argument in operator.default._schema.arguments]
    assert names[:10] == [
        "query",
        "key",
        "value",
        "cum_seq_q",
        "cum_seq_k",
        "max_q",
        "max_k",
        "dropout_p",
        "is_causal",
        "return_debug_mask",
    ], where
    assert {"scale", "seqused_k"} < set(names[10:]), where


@pytest.fixture(scope="module")
def model():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes)).eval()


def test_the_attention_implementation(model):
    where = LOOK_AT.format("PreTrainedModel.set_attn_implementation in transformers/modeling_utils.py")
    before = model.config._attn_implementation
    assert before == "sdpa", where
    with pytest.raises(ZeroDivisionError), compat.attention_implementation(model, "eager"):
        assert model.config._attn_implementation == "eager", where
        raise ZeroDivisionError
    assert model.config._attn_implementation == before, where


def test_the_layers_of_4_bits(model):
    where = LOOK_AT.format("bitsandbytes/nn/modules.py, what the linear layer of 4 bits is called")
    layers = pytest.importorskip("bitsandbytes").nn
    assert not compat.has_4bit_layers(model), where
    assert compat.has_4bit_layers(torch.nn.Sequential(layers.Linear4bit(8, 8))), where


def cache_of(model, ids):
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)
    return cache


def test_the_layers_of_a_cache(model):
    where = LOOK_AT.format("DynamicLayer and DynamicSlidingWindowLayer in transformers/cache_utils.py")
    cache, other = cache_of(model, [1, 2, 3, 4]), cache_of(model, [5, 6])
    expected = [layer.keys.clone() for layer in other.layers]
    assert compat.rows_can_join(cache), where
    compat.join_rows(cache, other, 5)
    assert [layer.keys.shape for layer in cache.layers] == [(2, 2, 5, 4)] * 2, where
    compat.keep_rows(cache, torch.tensor([1]), 3)
    assert cache.get_seq_length() == 2, where
    for layer, keys in zip(cache.layers, expected, strict=True):
        assert torch.equal(layer.keys, keys) and layer.values.shape == keys.shape, where
    windowed = DynamicCache(config=MistralConfig(sliding_window=4))
    assert not compat.rows_can_join(windowed), where
