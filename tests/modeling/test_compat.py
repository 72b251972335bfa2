"""What the model's code uses of other packages beyond their public interfaces is where it is looked for.

A test that fails after an update says what to look at in the new version.
"""

import inspect
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from torch.nn.attention.varlen import varlen_attn
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from sft.modeling import compat
from sft.modeling.loading import load_model
from sft.modeling.packed_attention import PACKED, packed_attention, register
from sft.modeling.template_budget import TemplateLimit
from sft.modeling.template_sandbox import BoundedEnvironment
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


def test_the_tokenizer_of_a_gguf_takes_other_parts(tmp_path):
    """tests/modeling/test_gguf.py compares the ids of the real one."""
    look = "transformers' fast tokenizers, and tokenizers.models.BPE: how are parts of them replaced?"
    fast = Tokenizer(models.BPE({"1": 0, "2": 1, "12": 2}, [("1", "2")], unk_token="1", byte_fallback=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast)
    assert [tokenizer(text)["input_ids"] for text in ("12", "2x")] == [[2], [1, 0]], look
    compat.split_digits_first(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    for made in (tokenizer, PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        assert [made(text)["input_ids"] for text in ("12", "2x")] == [[0, 1], [1]], look


def test_what_varlen_attention_is_asked(monkeypatch):
    """Called as packed_attention calls it, short of the kernel, which needs a GPU."""
    look = "torch.nn.attention.varlen.varlen_attn: how is it told to group heads, and to look back only?"
    asked = {}

    def called(*args, **keywords):
        try:
            asked.update(signature.bind(*args, **keywords).arguments)
        except TypeError as error:
            pytest.fail(f"{look} {error}")
        return args[0]

    signature = inspect.signature(varlen_attn)
    compat.varlen_asks_for_grouping.cache_clear()
    compat.varlen_asks_for_grouping()  # of the real one, before it is replaced
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", called)
    monkeypatch.setattr("sft.modeling.packed_attention.has_varlen", lambda *_: True)
    query, keys = torch.zeros(1, 4, 6, 8), torch.zeros(1, 2, 6, 8)
    boundaries = torch.tensor([0, 2, 6], dtype=torch.int32)
    packed_attention(
        torch.nn.Module(),
        query,
        keys,
        keys,
        None,
        scaling=0.5,
        sliding_window=3,
        cu_seq_lens_q=boundaries,
        max_length_q=4,
    )
    assert asked["query"].shape == (6, 4, 8), look
    assert asked["key"].shape == asked["value"].shape == (6, 2, 8), look
    assert asked["cu_seq_q"] is boundaries and asked["cu_seq_k"] is boundaries, look
    assert (asked["max_q"], asked["max_k"]) == (4, 4), look
    assert (asked["scale"], asked["window_size"]) == (0.5, (2, 0)), look
    assert asked.get("enable_gqa", True) is True, look


def test_the_layers_of_a_lora(tmp_path):
    look = "peft.tuners.lora.LoraLayer: what are the modules of its A and B called?"
    config = LoraConfig(r=2, target_modules=["q_proj"])
    model = get_peft_model(load_model(save_model(tmp_path), "float32", "cpu"), config)
    linear = [name for name, module in model.named_modules() if type(module) is torch.nn.Linear]
    loras = [name for name in linear if compat.is_lora(name)]
    assert len(loras) == 2 * 2 and len(linear) == len(loras) + 2 * 7 + 1, look  # 2 layers, and the output


def test_the_attention_is_the_one_asked_for(tmp_path):
    register()
    model = load_model(save_model(tmp_path), "float32", "cpu", attention=PACKED)
    look = "transformers.AttentionInterface: does a model still take its attention by this name?"
    assert model.config._attn_implementation == PACKED, look


def test_transformers_renders_in_our_environment():
    look = (
        "transformers.utils.chat_template_utils: in which environment does it compile a template, kept where?"
    )
    template = "{{ 'a' * 10**10 }}"
    compat.render_templates_in(BoundedEnvironment)
    with pytest.raises(TemplateLimit):
        render_jinja_template([[{"role": "user", "content": "q"}]], chat_template=template)
        pytest.fail(look)


def test_what_a_namespace_holds_is_read():
    from jinja2.utils import Namespace

    # Moved? See jinja2/utils.py, Namespace.__init__: what its __repr__ prints.
    assert compat.namespace_values(Namespace(a=1)) == {"a": 1}
