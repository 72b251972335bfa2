"""A stand-in for Ollama's rendering of a Modelfile's template.

The few constructs of Go's text/template that our Modelfiles use become Jinja's; any other is an error.
"""

import re

import jinja2

ACTION = re.compile(r"\{\{(-?) (.*?) (-?)\}\}", re.DOTALL)
OPENED = {
    "range $i, $m := .Messages": "{% for m in messages %}{% set i = loop.index0 %}",
    "with $m": "{% with %}",
}


def rendered(template, messages):
    """Render as Ollama does for a request of these messages."""
    parts, place, open_blocks = [], 0, []
    for found in ACTION.finditer(template):
        parts.append(quoted(template[place : found.start()]))
        place = found.end()
        assert not (found[1] or found[3]), "white space would be trimmed"
        parts.append(translated(found[2], open_blocks))
    assert not open_blocks
    parts.append(quoted(template[place:]))
    return (
        jinja2.Environment(undefined=jinja2.StrictUndefined)
        .from_string("".join(parts))
        .render(messages=messages)
    )


def translated(action, open_blocks):
    if action == "end":
        return {"range": "{% endfor %}", "with": "{% endwith %}", "if": "{% endif %}"}[open_blocks.pop()]
    if action in OPENED or action.startswith("if "):
        open_blocks.append(action.partition(" ")[0])
    if action in OPENED:
        return OPENED[action]
    if action == ".Content":
        return "{{ m.content }}"
    if re.fullmatch(r'"[^"\\]*"', action):
        return "{{ " + action + " }}"
    if action == 'if and (eq $i 0) (ne .Role "system")':
        return '{% if i == 0 and m.role != "system" %}'
    condition = re.fullmatch(r'(else )?if eq \.Role ("\w+")', action)
    assert condition, f"{action!r} is not understood"
    return f"{{% {'elif' if condition[1] else 'if'} m.role == {condition[2]} %}}"


def quoted(text):
    assert "{{" not in text
    return "{% raw %}" + text + "{% endraw %}" if text else ""
