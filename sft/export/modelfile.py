"""Ollama's Modelfile: the GGUF, training's chat template in Go's template language, what stops an answer.

Format: https://docs.ollama.com/modelfile. Without TEMPLATE Ollama guesses one from a list, by how alike the
Jinja texts are. Where ours cannot be expressed there is no Modelfile, so that nobody gets another by it.
"""

from collections.abc import Sequence
from typing import Any

from sft.export.chat_turns import ASSISTANT, SYSTEM, USER, ChatTurns, NotTurns, learn

MODEL = """\
# ollama create NAME -f Modelfile
# Template and stop tokens are those of training. The template has no tools.
{notes}FROM ./{file}
TEMPLATE \"\"\"{template}\"\"\"
{stops}
"""
TRIMS = "# In training white space around a message was taken off; Ollama's templates cannot do that.\n"
OTHERS = "# Also here, smaller or larger: {others}.\n"


def modelfile(tokenizer: Any, stops: Sequence[int], files: Sequence[str], adds_bos: bool) -> str:
    """Return a Modelfile for the first of these GGUF files; raise NotTurns, which says why, if there is none.

    `adds_bos` says that what reads the GGUF begins every prompt with BOS, which the template then must not.
    """
    turns = learn(tokenizer)
    template = go_template(_without_bos(turns, tokenizer.bos_token) if adds_bos else turns)
    notes = (OTHERS.format(others=", ".join(files[1:])) if files[1:] else "") + (TRIMS if turns.trims else "")
    stop_lines = [f"PARAMETER stop {_quoted(tokenizer.convert_ids_to_tokens(stop))}" for stop in stops]
    return MODEL.format(notes=notes, file=files[0], template=template, stops="\n".join(stop_lines))


def go_template(turns: ChatTurns) -> str:
    """Return the turns as a template of Go's text/template over Ollama's `.Messages`.

    It is one line but for the line ends that are printed: none are trimmed, so none can be lost.
    Raises NotTurns for a text that a Modelfile cannot hold.
    """
    text = {
        role: "{}{{{{ .Content }}}}{}".format(*map(_literal, turns.around[role])) for role in turns.around
    }
    first = _literal(turns.without_system)
    if first:
        first = '{{ if and (eq $i 0) (ne .Role "system") }}' + first + "{{ end }}"
    return (
        "{{ range $i, $m := .Messages }}{{ with $m }}"
        f'{first}{{{{ if eq .Role "system" }}}}{text[SYSTEM]}'
        f'{{{{ else if eq .Role "user" }}}}{text[USER]}'
        f'{{{{ else if eq .Role "assistant" }}}}{text[ASSISTANT]}'
        f"{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}{_literal(turns.prompt)}"
    )


def _without_bos(turns: ChatTurns, bos: str | None) -> ChatTurns:
    """Take BOS off what a conversation begins with, if it does with and without a system message."""
    opened, closed = turns.around[SYSTEM]
    if not bos or not (opened.startswith(bos) and turns.without_system.startswith(bos)):
        return turns
    around = {**turns.around, SYSTEM: (opened.removeprefix(bos), closed)}
    return ChatTurns(around, turns.without_system.removeprefix(bos), turns.prompt, turns.trims)


def _literal(text: str) -> str:
    if '"""' in text or "\r" in text:
        raise NotTurns("it prints what a Modelfile cannot hold: three quotation marks or a carriage return")
    return text.replace("{{", '{{ "{{" }}')


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
