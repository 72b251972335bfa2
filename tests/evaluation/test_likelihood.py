"""The likelihood of references: of their text alone, each by itself whatever the batch, by any tokenizer."""

import json
import math
import re
from types import SimpleNamespace

import pytest
import torch

from sft.core.errors import UserError
from sft.core.kept_results import KeptResults
from sft.data.tool_calls import calls_as_text
from sft.evaluation import likelihood
from sft.evaluation.likelihood import encoded, encoded_choices, likelihoods, right_choices
from sft.modeling.chat_template import encode, prompt_ids
from sft.modeling.loading import load_model, load_tokenizer, resolve
from tests.chat_templates import TOOLS, published, tokenizer_of
from tests.tiny import TEMPLATE, save_model, save_tokenizer, task

QUESTION = [{"role": "user", "content": "What?"}]


def likelihoods_of(model, tokenizer, examples):
    return likelihoods(model, tokenizer, encoded(tokenizer, task("question"), examples))


def test_the_likelihood_of_references_is_that_of_each_by_itself(tmp_path, monkeypatch):
    """By hand: the reference's tokens, not the one that ends the turn, nor those of answers in the prompt."""
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    prompts = [
        QUESTION,
        [*QUESTION, {"role": "assistant", "content": "That."}, {"role": "user", "content": "And why so?"}],
        [{"role": "user", "content": "Tell me more of it."}],
    ]
    references = ["Because it is.", "Nö.", "A longer answer than the others, by some words."]
    expected = []
    for prompt, reference in zip(prompts, references, strict=True):
        start = len(prompt_ids(tokenizer, prompt))
        answer = [{"role": "assistant", "content": reference}]
        ids = encode(tokenizer, [*prompt, *answer]).input_ids
        assert tokenizer.decode(ids[start:]) == reference + "<|eot|>"
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        expected.append(
            torch.nn.functional.cross_entropy(logits[start - 1 : -2], torch.tensor(ids[start:-1])).item()
        )
    examples = [
        {"prompt": prompt, "references": [reference, "Another one."]}
        for prompt, reference in zip(prompts, references, strict=True)
    ]
    for tokens in (4096, 1):
        monkeypatch.setattr(likelihood, "TOKENS", tokens)
        found = likelihoods_of(model, tokenizer, examples)
        assert [one.nll for one in found] == pytest.approx(expected, rel=1e-4)
    assert len({round(value, 2) for value in expected}) == 3
    # One token a byte here, so bits per byte are the mean over tokens in bits.
    assert [one.bytes for one in found] == [one.tokens for one in found] == [14, 4, 47]
    assert [one.bits_per_byte for one in found] == pytest.approx([nll / math.log(2) for nll in expected])


BITS = 9  # a byte: what is left of the probability goes to the end of text


class Known:
    """A model that gives every token, at any place, 2^-9 for each of its bytes."""

    device = torch.device("cpu")

    def __init__(self, tokenizer):
        tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        bits = torch.tensor([BITS * len(token) if "<|" not in token else 400.0 for token in tokens])
        probabilities = torch.exp2(-bits)
        probabilities[tokenizer.convert_tokens_to_ids("<|endoftext|>")] = 1 - probabilities.sum()
        self.logits = probabilities.double().log()

    def __call__(self, input_ids, **_):
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def known(folder, **options):
    """Return such a model and its tokenizer."""
    save_model(folder)
    save_tokenizer(folder, ("<|endoftext|>", "<think>", "</think>"), eos_token="<|endoftext|>", **options)
    tokenizer = load_tokenizer(resolve(str(folder)))
    return Known(tokenizer), tokenizer


def test_batches_that_are_kept_are_not_computed_again(tmp_path, monkeypatch):
    """In bfloat16 a sum's last bits depend on its batch, so what is kept is batches of the same division."""
    base = save_model(tmp_path / "model", spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "bfloat16", "cpu").eval()
    monkeypatch.setattr(likelihood, "TOKENS", 128)
    examples = [{"id": str(n), "prompt": QUESTION, "references": ["So. " * (n + 1)]} for n in range(6)]
    rows = encoded(tokenizer, task("question"), examples)
    whole = likelihoods(model, tokenizer, rows, KeptResults(tmp_path / "kept"))
    lines = (tmp_path / "kept").read_bytes().splitlines(keepends=True)
    assert len(lines) > 2

    (tmp_path / "kept").write_bytes(b"".join(lines[1:]))
    kept, read = KeptResults(tmp_path / "kept"), []
    hook = model.register_forward_pre_hook(lambda *_: read.append(1))
    assert likelihoods(model, tokenizer, rows, kept) == whole and read == [1]
    hook.remove()
    assert 0 < kept.used["likelihoods"] < 6
    assert sorted((tmp_path / "kept").read_bytes().splitlines()) != sorted(lines)  # of other seconds
    assert KeptResults(tmp_path / "kept").there("likelihoods") == 6

    # What is not finite tells of damaged weights: mended ones are to be asked again.
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    damaged = likelihoods(model, tokenizer, rows, KeptResults(tmp_path / "other"))
    assert math.isnan(damaged[0].nats) and not (tmp_path / "other").exists()


def test_bits_per_byte_do_not_depend_on_how_the_text_is_split(tmp_path):
    example = {"prompt": QUESTION, "references": ["Die tote Tante träumt."]}
    merges = [("t", "e"), ("t", "r"), ("a", "n"), ("an", "te"), ("Ã", "¤")]
    one, other = (
        likelihoods_of(*known(tmp_path / name, merges=pairs), [example])[0]
        for name, pairs in (("bytes", []), ("merged", merges))
    )
    assert one.bytes == other.bytes == one.tokens == 23 and other.tokens == 17
    assert one.bits_per_byte == pytest.approx(BITS) and other.bits_per_byte == pytest.approx(BITS)
    assert other.nll > 1.3 * one.nll


ASSISTANT = "message.role == 'assistant'"
TEMPLATES = {
    "as it is": TEMPLATE,
    "newline after": TEMPLATE.replace("'<|eot|>'", "'<|eot|>\n'"),
    "stripped": TEMPLATE.replace("message.content", "(message.content | trim)"),
    "blank before": TEMPLATE.replace(
        "message.content", f"(' ' if {ASSISTANT} else '') + message.content"
    ).replace("assistant\\n' }}{", "assistant\\n ' }}{"),
    "empty thought": TEMPLATE.replace(
        "message.content", f"('<think>\n\n</think>\n\n' if {ASSISTANT} else '') + message.content"
    ),
    "tagged": "{%- for message in messages %}{{- '<|start|>' + message.role + '\n' }}"
    f"{{%- if {ASSISTANT} %}}{{%- generation %}}{{{{- message.content + '<|eot|>' }}}}{{%- endgeneration %}}"
    "{%- else %}{{- message.content + '<|eot|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant\n' }}{%- endif %}",
}


@pytest.mark.parametrize("reference", ["Because.", "end", "  Ünd so\n\nweiter \n"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_template_puts_around_the_text_does_not_count(tmp_path, name, reference):
    """Nor what some strip of it: its bytes are those that are scored."""
    model, tokenizer = known(tmp_path, template=TEMPLATES[name])
    (found,) = likelihoods_of(model, tokenizer, [{"prompt": QUESTION, "references": [reference]}])
    assert found.bytes == found.tokens == len(reference.strip().encode())
    assert found.bits_per_byte == pytest.approx(BITS)


# As Qwen's and Hermes' templates do.
CALLING = """{%- if tools %}{{- '<|start|>system\n' + (tools | tojson) + '<|eot|>' }}{%- endif %}
{%- for message in messages %}
{{- '<|start|>' + message.role + '\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{%- set said = {"name": call.function.name, "arguments": call.function.arguments} %}
{{- '<tool_call>\n' + (said | tojson) + '\n</tool_call>' }}
{%- endfor %}{{- '<|eot|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\n' }}{%- endif %}"""
CALLED = '[{"type": "function", "function": {"name": "find", "arguments": {"what": "salt"}}}]'
OFFERED = '[{"type": "function", "function": {"name": "find", "parameters": {}}}]'


def test_the_likelihood_of_a_tool_call_is_that_of_what_the_template_makes_of_it(tmp_path):
    model, tokenizer = known(tmp_path, template=CALLING)
    example = {
        "id": "0",
        "prompt": QUESTION,
        "tools": OFFERED,
        "references": ['[{"name": "find", "arguments": {"what": "salt"}}]'],
        "calls": CALLED,
    }
    (rows,) = encoded(tokenizer, task("mine"), [example])
    text = '<tool_call>\n{"name": "find", "arguments": {"what": "salt"}}\n</tool_call>'
    assert tokenizer.decode([rows.ids[n] for n in rows.counted]) == text and rows.bytes == len(text)
    assert tokenizer.decode(rows.ids).startswith("<|start|>system\n[{")
    (found,) = likelihoods(model, tokenizer, [rows])
    assert found.bits_per_byte == pytest.approx(BITS)
    asked = {"tools": json.loads(OFFERED), "add_generation_prompt": True, "return_dict": False}
    assert rows.ids[: rows.counted[0]] == tokenizer.apply_chat_template(QUESTION, **asked)


def test_a_template_that_prints_no_tools_refuses_the_example(tmp_path):
    _, tokenizer = known(tmp_path)
    example = {"id": "0b", "prompt": QUESTION, "tools": OFFERED, "references": ["Yes."], "calls": None}
    with pytest.raises(UserError, match=r"^the example 0b of the task 'mine' cannot be scored: .* tools"):
        encoded(tokenizer, task("mine"), [example])


def test_the_likeliest_choice_by_its_characters(tmp_path):
    """By hand: of a byte model 9 bits a byte, so of ASCII all choices are equal, and others cost more."""
    model, tokenizer = known(tmp_path)
    examples = [
        {"prompt": QUESTION, "references": [reference], "choices": ["nö", "no, never", "yes"]}
        for reference in ("no, never", "nö", "yes")
    ]
    mine = task("mine", metrics=("multiple_choice",))
    choices = encoded_choices(tokenizer, mine, examples)
    found = [likelihoods(model, tokenizer, rows) for rows in choices]
    assert [one.tokens for one in found[0]] == [3, 9, 3]
    assert right_choices(examples, found) == [1, 0, 0]
    assert encoded_choices(tokenizer, task("mine"), examples) == []


THOUGHTFUL = {
    "id": "0c",
    "prompt": [{"role": "user", "content": "1+1?"}],
    "references": ["2"],
    "reasoning": "One and one.",
    "choices": ["2", "3"],
}


@pytest.mark.parametrize(
    "name",
    ["qwen3", "qwen3_training", "qwen2_5", "qwen3_5_think", "qwen3_6", "nemotron_3_nano", "llama3_1"],
)
def test_a_reference_is_scored_after_its_thoughts_as_it_is_trained_on(tmp_path, name):
    """Whatever place the template has for them: only the answer's own text counts."""
    tokenizer = tokenizer_of(tmp_path, published(name))
    answer = {"role": "assistant", "content": "2", "reasoning_content": THOUGHTFUL["reasoning"]}
    (rows,) = encoded(tokenizer, task("mine"), [THOUGHTFUL])
    assert rows.ids == encode(tokenizer, [*THOUGHTFUL["prompt"], answer]).input_ids
    before = tokenizer.decode(rows.ids[: rows.counted[0]])
    assert tokenizer.decode([rows.ids[n] for n in rows.counted]) == "2" and rows.bytes == 1
    assert before.rstrip().endswith("</think>") and before.count("One and one.") == 1
    both = encoded_choices(tokenizer, task("mine", metrics=("multiple_choice",)), [THOUGHTFUL])[0]
    assert [tokenizer.decode([row.ids[n] for n in row.counted]) for row in both] == ["2", "3"]


@pytest.mark.parametrize("name", ["qwen3", "qwen2_5", "nemotron_3_nano"])
def test_so_is_a_tool_call(tmp_path, name):
    tokenizer = tokenizer_of(tmp_path, published(name))
    (rows,) = encoded(tokenizer, task("mine"), [{**THOUGHTFUL, "tools": OFFERED, "calls": CALLED}])
    counted = tokenizer.decode([rows.ids[n] for n in rows.counted])
    assert counted.startswith("<tool_call>") and counted.endswith("</tool_call>")
    assert "One and one." in tokenizer.decode(rows.ids[: rows.counted[0]])


def test_a_template_whose_prompt_is_longer_than_the_answer_is_refused(tmp_path):
    """DeepSeek R1's opens a thought, which an answer without one never has."""
    control = ["<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"]
    tokenizer = tokenizer_of(tmp_path, published("deepseek_r1_distill_training"), control)
    with pytest.raises(UserError, match="the example 0c of the task 'mine' cannot be scored"):
        encoded(tokenizer, task("mine"), [{**THOUGHTFUL, "reasoning": None}])
    (rows,) = encoded(tokenizer, task("mine"), [THOUGHTFUL])
    assert tokenizer.decode([rows.ids[n] for n in rows.counted]) == "2"


TWICE = json.dumps(
    [
        {"type": "function", "function": {"name": "get_weather", "arguments": {"city": what, "days": shops}}}
        for what, shops in (("salt", 2), ("3", True))
    ]
)
ONCE = json.dumps(json.loads(TWICE)[:1])
CONTROL = re.compile(r"<\|\w+\|>|\[[A-Z_]+\]|</?think>|</?tool_call>")
MISTRAL = """{%- if tools %}{{- '<|start|>system\n' + (tools | tojson) + '<|eot|>' }}{%- endif %}
{%- for message in messages %}
{{- '<|start|>' + message.role + '\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + (call.function.arguments | tojson) }}
{%- endfor %}{{- '<|eot|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\n' }}{%- endif %}"""


@pytest.mark.parametrize("calls", [ONCE, TWICE])
@pytest.mark.parametrize(
    "name",
    [
        "qwen2_5",
        "qwen3",
        "qwen3_6",
        "qwen3_5_nothink",
        "nemotron_3_nano",
        "glm4moe_training",
        "lfm2_2_5",
        "gptoss_training",
        "llama3_1",
        "mistral",
    ],
)
def test_the_right_calls_as_a_template_writes_them_score_1(tmp_path, name, calls):
    """Where a template has a form of its own, or marks that are special tokens; nor is a wrong call right."""
    if name in ("gptoss_training", "llama3_1") and calls is TWICE:
        pytest.skip("one call a turn")
    template = MISTRAL if name == "mistral" else published(name)
    # Marks are special tokens, as they are of some models.
    control = {*CONTROL.findall(template)} - {"<|start|>", "<|eot|>"}
    tokenizer = tokenizer_of(tmp_path, template, sorted(control))
    mine = task("mine", metrics=("tool_call",))
    example = {**THOUGHTFUL, "tools": json.dumps(TOOLS), "calls": calls, "references": [calls_as_text(calls)]}
    example["reasoning"] = "Hm." if name in ("qwen3", "qwen3_6", "nemotron_3_nano") else None
    assert encoded(tokenizer, mine, [example])
    wrong = {**example, "references": [calls_as_text(calls.replace("salt", "oil"))]}
    with pytest.raises(UserError, match="cannot read tool calls as the chat template of made"):
        encoded(tokenizer, mine, [wrong])
    assert encoded(tokenizer, task("mine"), [wrong])
