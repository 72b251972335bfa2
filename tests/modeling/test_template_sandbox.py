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
from sft.modeling import template_budget, template_sandbox
from sft.modeling.template_rendering import TemplateRefusal, apply
from tests.chat_templates import tokenizer_of

MORE_MEMORY = 2 << 30
LOOP = "{% for a in range(100000) %}"
GROW = "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = "
# Of a template that the clock may stop; one that another bound is to stop has its time on a busy machine too.
SECONDS, AMPLE = 0.3, 60
DOUBLED = (
    "{% set n = namespace(x=['x'], y=['x']) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
)
LONG = "{% set x = 'a' * 20000000 %}{% set y = 'a' * 19999999 + 'b' %}"
NESTED = (
    "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(23) %}"
    "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}"
)
MANY = "{% for i in range(17) %}{% set n.l = n.l + n.l %}{% endfor %}{% set l = n.l %}"
LETTERS = "{% set n = namespace(l=['A' * 1000000]) %}" + MANY
CHOSEN = "range(0, 2305843009213693951 * 100000, 2305843009213693951)"  # all of one hash
HOSTILE = {
    LOOP * 2 + "{% endfor %}" * 2: "takes more than",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}": "takes",
    "{% set s = 'a' * 9**7 %}{% set t = s[1:] ~ 'b' %}" + LOOP + "{{ t in s }}{% endfor %}": "takes",
    LOOP + "A" * 10_000 + "{% endfor %}": "makes more than 256 MiB",
    "{{ 'a' * 10**10 }}": "makes more than 256 MiB",
    "{{ ([0] * 10**9)|length }}": "makes more than 256 MiB",
    GROW + "n.x ~ n.x %}{% endfor %}": "makes more than",
    GROW + "n.x + n.x %}{% endfor %}": "makes more than",
    DOUBLED + "{{ n.x }}": "makes or compares more than",
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
    LONG + "{{ y in [x] * 100000 }}": "makes more than 256 MiB",
    LONG + "{{ ([x] * 100000) == ([y] * 100000) }}": "makes more than 256 MiB",
    LONG + "{% set n = namespace(l=[x]) %}" + MANY + "{{ y in l }}": "makes or compares more than 256 MiB",
    LONG + "{% set n = namespace(l=[x]) %}" + MANY + "{{ [y]|select('in', l)|list }}": "makes or",
    NESTED + "{{ 'b' if n.x == n.y }}" * 300: "takes more than",
    NESTED + "{{ 'b' if n.x is eq(n.y) }}" * 300: "takes more than",
    NESTED + "{{ 'b' if {1: n.x} != {1: n.y} }}" * 300: "takes more than",
    NESTED + "{{ [n.x, 1].index(n.y) }}" * 300: "takes more than",
    NESTED + "{{ ([n.x]|first) in [n.y] }}" * 300: "takes more than",
    "{{ (['A' * 1000000] * 100000)|sort }}": "makes more than",
    LETTERS + "{{ l|sort }}": "makes or compares more than",
    LETTERS + "{{ l|map('upper')|sort }}": "more than",
    LETTERS + "{{ l|max }}": "makes or compares more than",
    LETTERS + "{{ l|unique|list }}": "makes or compares more than",
    LETTERS + "{{ l|join(',') }}": "makes or compares more than",
    LETTERS + "{{ l|string|length }}": "makes or compares more than",
    LETTERS + "{{ l|replace('A', 'b') }}": "makes or compares more than",
    LETTERS + "{{ '%s' % (l,) }}": "makes or compares more than",
    LETTERS + "{{ '{}'.format(l) }}": "makes or compares more than",
    "{% set n = namespace(l=[{'k': 'A' * 1000000}]) %}" + MANY + "{{ l|groupby('k') }}": "makes or compares",
    "{{ " + CHOSEN + "|unique|list }}": "goes through more than",
    "{{ " + CHOSEN + "|map('int')|unique|list }}": "more than",
    "{{ {}.fromkeys(" + CHOSEN + ") }}": "goes through more than",
    "{% set s = 'a' * 5000000 %}{{ (s + s).rfind('ab' + s) }}": "goes through more than",
    "{% set s = 'a' * 5000000 %}{{ s.strip('b' * 5000000 + 'a') }}": "goes through more than",
    "{{ ('f' * 2000000)|int(0, 16) // ('f' * 1000000)|int(0, 16) }}": "too many digits",
    "{{ ('f' * 2000000)|int(0, 16) is divisibleby(('f' * 1000000)|int(0, 16)) }}": "too many digits",
    "{{ ('ab ' * 40000000).split()|length }}": "goes through more than",
    "{{ ('\u0142' * 60000000)|list|length }}": "makes more than",
    "{% set d = dict(a='x' * 100000) %}{{ [d.values()] * 100000 }}": "makes more than",
    "{% set n = namespace(l=[0] * 200) %}" + MANY + "{{ n }}": "more than",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "nests or holds too much",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}": "nests or holds too much",
    "{% for a in [1] %}" * 30 + "{% endfor %}" * 30: "cannot be compiled",
    "x" * 300_000: "longer than 256 Ki",
    "{% filter center(10**9) %}x{% endfilter %}": "not valid Jinja",
}
RENDERER = """
import json, resource, sys, time
from pathlib import Path
from sft.core.errors import UserError
from sft.modeling import template_budget
from sft.modeling.template_rendering import apply
from tests.chat_templates import tokenizer_of
tokenizer, said = tokenizer_of(Path(sys.argv[1]), "x"), []
pages = Path("/proc/self/statm")  # Linux
used = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 1 << 40
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
for tokenizer.chat_template, template_budget.SECONDS in json.load(sys.stdin):
    try:
        said.append(f"rendered {len(apply(tokenizer, [{'role': 'user', 'content': 'q'}], tokenize=False))}")
    except UserError as error:
        said.append(str(error))
print("said", json.dumps(said))
"""


def test_hostile_templates(tmp_path):
    command = [sys.executable, "-c", RENDERER, str(tmp_path), str(MORE_MEMORY)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    by_clock = ("takes", "takes more than", "more than")
    asked = json.dumps([(text, SECONDS if why in by_clock else AMPLE) for text, why in HOSTILE.items()])
    done = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True, timeout=600)
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
    monkeypatch.setattr(template_budget, "SECONDS", 0.1)
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
    monkeypatch.setattr(template_budget, "WORK", 1 << 20)
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
    "{% set n = namespace(x=1) %}{{ n }}{{ [n] }}{{ n|string }}",
    "{{ 1 < 2 < messages|length }}{{ 'user' in messages[0] }}{{ messages[0].role in ['user', 'tool'] }}"
    "{{ messages[0] == messages[0] }}{{ messages[0].role not in messages[0].content }}"
    "{{ 4 is divisibleby 2 }}"
    "{{ 'a' in messages|map(attribute='role') }}{{ messages[0].role is in ['user'] }}"
    "{{ 3 > 2 > missing|length }}",
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ ['b', 'A', 'b']|unique|sort|join }}"
    "{{ 'a</t>b'.rsplit('</t>', 1) }}{{ ' a '.strip(' ') }}{{ [3, 1]|max }}{{ messages|groupby('role') }}"
    "{{ {'b': 1, 'a': 2}|dictsort }}{{ [1, 2]|sum }}{{ 7 // 2 }}{{ 'x' is upper }}{{ (1, 2) in [(1, 2)] }}",
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
