"""Chat templates with random changes: a conversation is encoded, the same each time, or refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.core.errors import UserError
from sft.modeling import template_budget
from sft.modeling.chat_template import encode
from tests.chat_templates import ANSWER, ASKED, CALL, RESULT, THOUGHTS, TOOLS, published, tokenizer_of
from tests.fuzzing import cases

REAL = [published(name) for name in ("qwen3", "qwen2_5", "llama3_1")]
SNIPPETS = [
    "{{ message }}",
    "{{ messages }}",
    "{{ messages|tojson }}",
    "{{ messages[0]['content'] * 100000000 }}",
    "{{ 1 // 0 }}",
    "{{ raise_exception('no') }}",
    "{{ messages.pop() }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ messages[-1].content|center(10**9) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ ('%s' ~ '%') % 1 }}",
    "{{ strftime_now(5) }}",
    "{{ messages|sort|string }}",
    "{{ tools|map(attribute='function.name')|join(', ') }}",
    "{{ undefined.undefined }}",
    "{{ none + 1 }}",
    "{{ [messages, messages]|string|length }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% generation %}",
    "{% endgeneration %}",
    "{% if",
    "{% endfor %}",
    "{% break %}",
    "{# ",
    "}}",
    "<|im_end|>",
    "\ud800",
    "\0",
]
TEXTS = st.one_of(
    st.sampled_from(["", "a", "</think>", "<think>", "<|im_end|>", "{{ 7*7 }}", "\ud800", "\0", "é" * 50]),
    st.text(max_size=10),
)
TURNS: list[dict[str, Any]] = [ASKED, CALL, RESULT, ANSWER, *THOUGHTS, {"role": "system", "content": "s"}]


@st.composite
def changed(draw: Any) -> str:
    """Draw a real template with pieces cut out, doubled or put in."""
    template = draw(st.sampled_from([*REAL, REAL[1]]))
    for _ in range(draw(st.integers(0, 2))):
        begin = draw(st.integers(0, len(template)))
        end = begin + draw(st.sampled_from([0, 0, 0, 1, 3, 20, 200]))
        new = draw(st.sampled_from([*SNIPPETS, template[begin:end] * 2]))
        template = template[:begin] + new + template[end:]
    return template


@st.composite
def conversations(draw: Any) -> list[dict[str, Any]]:
    made = draw(st.lists(st.sampled_from(TURNS), min_size=1, max_size=4))
    return [turn | ({"content": draw(TEXTS)} if draw(st.integers(0, 3)) == 0 else {}) for turn in made]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tokenizer_of(tmp_path_factory.mktemp("tokenizer"), REAL[0])


def test_no_template_ends_in_a_traceback(tokenizer, monkeypatch):
    monkeypatch.setattr(template_budget, "SECONDS", 0.2)
    encoded = 0

    @cases(2.0)
    @given(changed(), conversations(), st.booleans())
    def tried(template, messages, with_tools):
        nonlocal encoded
        tokenizer.chat_template = template
        outcomes = []
        for _ in range(2):
            try:
                outcomes.append(encode(tokenizer, messages, tools=TOOLS if with_tools else None))
            except UserError as error:
                assert len(str(error)) < 5_000
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        if not isinstance(outcomes[0], type):
            encoded += 1
            assert len(outcomes[0].input_ids) == len(outcomes[0].assistant_mask)

    tried()
    assert encoded >= 10
