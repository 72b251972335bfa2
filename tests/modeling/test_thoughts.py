"""Where a model's thoughts end and its answer begins."""

import pytest

from sft.modeling.chat_template import prompt_ids
from sft.modeling.template_facts import examine
from sft.modeling.thoughts import said
from tests.chat_templates import ASKED, CHATML, LLAMA3, published, tokenizer_of


def said_by(tokenizer, text, asked=ASKED):
    return said(tokenizer, prompt_ids(tokenizer, [asked]), tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("name", ["qwen3", "qwen2_5"])
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes", "yes"),
        ("<think>\nno, no\n</think>\n\nyes", "yes"),
        ("<think>yes", ""),
        ("Use the </think> tag to end", "Use the </think> tag to end"),
        ("Say <think>yes", "Say <think>yes"),
        ("<think>a</think>the </think> tag", "the </think> tag"),
    ],
)
def test_thoughts_in_think_tags(tmp_path, name, text, answer):
    """The marks are special tokens here, which are no part of the text that is read."""
    tokenizer = tokenizer_of(tmp_path, published(name))
    found = said_by(tokenizer, text)
    assert found.marked == answer
    assert found.text == answer.replace("<think>", "").replace("</think>", "")
    assert said_by(tokenizer, text, {"role": "user", "content": "What does <think> do?"}) == found


@pytest.mark.parametrize("name", ["nemotron_3_nano", "qwen3_5_think"])
def test_a_prompt_that_opens_the_thoughts(tmp_path, name):
    tokenizer = tokenizer_of(tmp_path, published(name))
    assert said_by(tokenizer, "no, no\n</think>\n\nyes<tool_call>").marked == "yes<tool_call>"
    assert said_by(tokenizer, "no, no\n</think>\n\nyes<tool_call>").text == "yes"
    assert said_by(tokenizer, "no, no").text == ""


def test_a_prompt_that_ends_an_empty_thought(tmp_path):
    assert said_by(tokenizer_of(tmp_path, published("qwen3_5_nothink")), "yes").text == "yes"


BRACKETS = """{%- for message in messages %}
{%- if message.role == "user" %}{{- "[INST]" + message.content + "[/INST]" }}
{%- else %}
{%- if message.reasoning_content %}{{- "[THINK]" + message.reasoning_content + "[/THINK]" }}{%- endif %}
{{- message.content + "<|eot_id|>" }}{%- endif %}{%- endfor %}"""


def test_marks_that_are_the_template_s_own(tmp_path):
    marks = ["[INST]", "[/INST]", "[THINK]", "[/THINK]"]
    tokenizer = tokenizer_of(tmp_path, BRACKETS, [*CHATML, *LLAMA3, *marks])
    assert examine(tokenizer).reasoning.mark == "[THINK]"
    assert said_by(tokenizer, "[THINK]no[/THINK]yes").text == "yes"
    assert said_by(tokenizer, "[THINK]no").text == ""
    assert said_by(tokenizer, "yes").text == "yes"
