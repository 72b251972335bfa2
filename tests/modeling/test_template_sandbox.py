"""Templates made to take a machine's memory or its day: each is refused in a sentence, within bounds.

They run in one process of their own, whose memory the system limits to what it has before them and
MORE_MEMORY; docs/robustness.md says what each takes.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from jinja2 import Environment

from sft.core.errors import UserError
from sft.modeling import template_sandbox
from sft.modeling.template_rendering import TemplateRefusal, apply
from tests.chat_templates import tokenizer_of

MORE_MEMORY = 2 << 30
LOOP = "{% for a in range(100000) %}"
GROW = "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = "
SECONDS = 0.3
DOUBLED = (
    "{% set n = namespace(x=['x'], y=['x']) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
)
HOSTILE = {
    LOOP * 2 + "{% endfor %}" * 2: "takes more than",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}": "takes",
    "{% set s = 'a' * 9**7 %}{% set t = s[1:] ~ 'b' %}" + LOOP + "{{ t in s }}{% endfor %}": "takes",
    LOOP + "A" * 10_000 + "{% endfor %}": "makes more than 256 MiB",
    "{{ 'a' * 10**10 }}": "makes more than 256 MiB",
    "{{ ([0] * 10**9)|length }}": "makes more than 256 MiB",
    GROW + "n.x ~ n.x %}{% endfor %}": "makes more than",
    GROW + "n.x + n.x %}{% endfor %}": "makes more than",
    DOUBLED + "{{ n.x }}": "makes more than",
    "{% set s = 'x' * 100000 %}{{ s|replace('x', s) }}": "makes more than",
    "{% set s = 'x' * 100000 %}{{ ([s] * 100000)|join }}": "makes more than",
    GROW.replace("'x'", "9") + "n.x * n.x %}{% endfor %}": "too many digits",
    "{{ 9 ** (9 ** 9) }}": "too many digits",
    "{{ 'x'|center(10**9) }}": "calls center with the number 1e+09",
    "{{ ['x']|map('center', 10**9)|list }}": "with the number 1e+09",
    "{{ 'x'|indent(10**9, true) }}": "calls indent with the number 1e+09",
    "{{ '%1000000000d' % 1 }}": "formats to a width",
    "{{ '{:1000000000}'.format(1) }}": "formats to a width",
    "{{ strftime_now('%1000000000d') }}": "formats to a width",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "nests or holds too much",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}": "nests or holds too much",
    "{% for a in [1] %}" * 30 + "{% endfor %}" * 30: "cannot be compiled",
    "{% filter center(10**9) %}x{% endfilter %}": "not valid Jinja",
}
RENDERER = """
import json, resource, sys, time
from pathlib import Path
from sft.core.errors import UserError
from sft.modeling import template_sandbox
from sft.modeling.template_rendering import apply
from tests.chat_templates import tokenizer_of
template_sandbox.SECONDS = float(sys.argv[2])
tokenizer, said = tokenizer_of(Path(sys.argv[1]), "x"), []
pages = Path("/proc/self/statm")  # Linux
used = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 1 << 40
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]), resource.RLIM_INFINITY))
for template in json.load(sys.stdin):
    tokenizer.chat_template = template
    try:
        said.append(f"rendered {len(apply(tokenizer, [{'role': 'user', 'content': 'q'}], tokenize=False))}")
    except UserError as error:
        said.append(str(error))
print("said", json.dumps(said))
"""


def test_hostile_templates(tmp_path):
    command = [sys.executable, "-c", RENDERER, str(tmp_path), str(SECONDS), str(MORE_MEMORY)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    asked = json.dumps(list(HOSTILE))
    done = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.rpartition("said ")[2])
    for wanted, sentence in zip(HOSTILE.values(), said, strict=True):
        assert sentence.startswith("made: its chat template ") and wanted in sentence and len(sentence) < 500


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tokenizer_of(tmp_path_factory.mktemp("tokenizer"), "x")


def rendered(tokenizer, template, content="q"):
    tokenizer.chat_template = template
    return apply(tokenizer, [{"role": "user", "content": content}], tokenize=False)


def test_a_thread_is_bounded_too(tokenizer, monkeypatch):
    monkeypatch.setattr(template_sandbox, "SECONDS", 0.1)
    said = []

    def work():
        try:
            rendered(tokenizer, next(iter(HOSTILE)))
        except UserError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert "takes more than" in said[0]


def test_a_long_conversation_is_left_out_and_does_not_end_the_run(tokenizer, monkeypatch):
    monkeypatch.setattr(template_sandbox, "WORK", 1 << 20)
    with pytest.raises(TemplateRefusal, match="makes more than 1 MiB"):
        rendered(tokenizer, "{{ messages[0].content * 2 }}", "x" * ((1 << 20) + 1))


@pytest.mark.parametrize("template", ["{{ 1 // 0 }}", "{{ '\\ud800' }}", "{{ messages.pop() }}"])
def test_faults_of_a_template_are_refusals(tokenizer, template):
    with pytest.raises(TemplateRefusal, match="refuses this conversation"):
        rendered(tokenizer, template)


PLAIN = [
    "{% for m in messages %}{{ loop.index }}{{ loop.length }}{{ m['role'] ~ 1 ~ none }}{% endfor %}",
    "{{ messages[0].content[1:] }}{{ messages[::-1][0].role }}{{ [1, messages[0]] }}{{ {'a': (1, 2)} }}",
    "{{ '%s-%5d' % ('a', 7) }}{{ '{:>4}'.format('b') }}{{ 2 ** 5 * 3 + 1 }}{{ 'ab' * 2 }}{{ [1] * 2 }}",
    "{{ messages|map(attribute='role')|join(',') }}{{ messages[0]|items|list }}",
    "{{ 'a b'|replace(' ', '')|upper }}{{ 'a\\nb'|indent(2) }}{{ messages|tojson(indent=2) }}",
    "{% for k, v in messages[0].items() if v %}{{ k }}{% else %}none{% endfor %}{{ missing|default('d') }}",
    "{% for x in [[1, [2]], [3]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller else '' }}{% endmacro %}{{ f(1) }}"
    "{% call f(3) %}c{% endcall %}{% set x %}s{{ 1 }}{% endset %}{{ x }}{% block b %}{{ x }}{% endblock %}",
]


@pytest.mark.parametrize("template", PLAIN)
def test_what_is_rendered_is_what_jinja_renders(template):
    values = {"messages": [{"role": "user", "content": "quote"}]}
    plain, bounded = Environment(), template_sandbox.BoundedEnvironment()
    assert bounded.from_string(template).render(values) == plain.from_string(template).render(values)
