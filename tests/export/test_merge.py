"""The merged weights are those of PEFT's own merge, however they are stored, cut into files and written."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.core.errors import UserError
from sft.export import checkpoint, merge, tokenizer
from sft.export.merge import Merged
from sft.modeling import adapter
from sft.modeling.loading import resolve
from tests.export.made_adapters import save_tiny

IDS = torch.arange(3, 40)[None]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def adapted(made):
    """Return the base with the adapter on it, in float32."""
    base, folder = made
    return adapter.attach(AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32), folder).eval()


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    """Write both kinds of safetensors in files of 20 kB, so there are several."""
    base, folder = made
    out = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "SHARD", "20KB")
        folders = {dtype: out / dtype for dtype in ("float32", "bfloat16")}
        checkpoint.write(Merged(base, folder), tokenizer.exported(base), folders)
    return out


def test_logits_are_those_of_the_adapter(written, adapted):
    merged = AutoModelForCausalLM.from_pretrained(written / "float32").eval()
    assert merged.dtype == torch.float32
    with torch.no_grad():
        plain, ours = adapted(IDS).logits, merged(IDS).logits
        with adapted.disable_adapter():
            base = adapted(IDS).logits
    assert (plain - ours).abs().max() < 1e-5 < 0.01 < (plain - base).abs().max()


def test_weights_are_those_of_pefts_merge(written, made):
    base, folder = made
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    expected = adapter.attach(model, folder).merge_and_unload().state_dict()
    for dtype in ("float32", "bfloat16"):
        files = sorted((written / dtype).glob("*.safetensors"))
        assert len(files) > 2
        found = {name: tensor for file in files for name, tensor in load_file(file).items()}
        assert found.keys() == expected.keys()
        assert all(found[name].equal(expected[name].to(getattr(torch, dtype))) for name in found)
        index = json.loads((written / dtype / "model.safetensors.index.json").read_text())
        assert index["weight_map"].keys() == expected.keys()


def test_settings_say_what_ends_an_answer(written, made):
    for dtype in ("float32", "bfloat16"):
        config = json.loads((written / dtype / "config.json").read_text())
        assert (config["dtype"], config["architectures"]) == (dtype, ["LlamaForCausalLM"])
        model = AutoModelForCausalLM.from_pretrained(written / dtype)
        saved = AutoTokenizer.from_pretrained(written / dtype)
        end = saved.convert_tokens_to_ids("<|eot|>")
        assert (saved.eos_token, saved.pad_token) == ("<|eot|>", "<|endoftext|>")
        assert model.generation_config.eos_token_id == sorted({7, 9, end})
        assert model.generation_config.pad_token_id == saved.pad_token_id
        text = "é 12  <|start|>user\n"
        assert saved(text)["input_ids"] == tokenizer.exported(made[0])(text)["input_ids"]
        assert str(made[0].path.parent) not in (written / dtype / "tokenizer_config.json").read_text()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_other_stored_types(dtype, tmp_path):
    base, folder = save_tiny(tmp_path, dtype)
    before = (base.path / "model.safetensors").read_bytes()
    checkpoint.write(Merged(base, folder), tokenizer.exported(base), {"float32": tmp_path / "out"})
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    expected = adapter.attach(model, folder).merge_and_unload().state_dict()
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert all(found[name].equal(expected[name]) for name in expected)
    assert (base.path / "model.safetensors").read_bytes() == before, "merged into the base's own file"


def changed(base, name, change):
    path = base.path / "model.safetensors"
    tensors = load_file(path)
    change(tensors[name])
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("value", "words"), [(float("nan"), "not finite"), (7e4, "70144, and float16.*ends at 65504")]
)
def test_weights_that_cannot_be_exported(value, words, tmp_path):
    base, folder = save_tiny(tmp_path)
    changed(base, "model.norm.weight", lambda norm: norm[3].fill_(value))
    with pytest.raises(UserError, match=f"model.norm.weight.*{words}"):
        checkpoint.write(Merged(base, folder), tokenizer.exported(base), {"float16": tmp_path / "out"})


def test_a_gguf_is_made_by_way_of_float16(tmp_path):
    base, folder = save_tiny(tmp_path)
    changed(base, "model.norm.weight", lambda norm: norm[3].fill_(7e4))
    merged, exported = Merged(base, folder), tokenizer.exported(base)
    with pytest.raises(UserError, match="ends at 65504"):
        checkpoint.write(merged, exported, {"bfloat16": tmp_path / "out"}, for_gguf=True)


def test_a_base_of_quantized_weights(tmp_path, made):
    base, folder = save_tiny(tmp_path)
    config = json.loads((base.path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=r"stored quantized \(bitsandbytes\).*the model that this one was made of"
    ):
        merge.Merged(resolve(base.reference), folder)


def test_an_adapter_of_another_shape(tmp_path, made):
    _, folder = save_tiny(tmp_path)
    wider, _ = made
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 3}))
    with pytest.raises(UserError, match="the adapter does not fit"):
        merge.Merged(wider, folder)


LLAMA = '{% if not date_string is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}'


def test_a_template_that_prints_today_prints_the_date_of_training():
    pinned = tokenizer.pin_date(LLAMA + "{{ strftime_now( '%Y-%m-%d' ) }}")
    assert pinned == LLAMA.replace('strftime_now("%d %b %Y")', '"26 Jul 2024"') + '{{ "2024-07-26" }}'
    assert not tokenizer.prints_today(pinned)
    assert tokenizer.prints_today("{{ strftime_now(format) }}")
