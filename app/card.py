"""A conversation about a recipe as HTML and Markdown, in which nothing that was typed or generated is obeyed.

All tags are made here; every text between them is escaped.
"""

import re
from dataclasses import dataclass, field
from html import escape

from sft.evaluation.recipe_format import RecipeCard, parse


@dataclass
class Turn:
    """A question, its answer so far, and in the words of app.answering how that stands."""

    question: str
    answer: str = ""
    state: str = "waiting"
    fault: str = ""
    ahead: int = 0
    seed: int = 0


@dataclass
class Pane:
    """One model's conversation: what the page calls the model, its turns, and a remark on the question."""

    model: str
    turns: list[Turn] = field(default_factory=list)
    remark: str = ""
    loading: str = ""


def render(pane: Pane) -> str:
    """Return a pane as HTML: the recipe as a card, what followed as a chat."""
    busy = any(turn.state in ("waiting", "generating") for turn in pane.turns)
    parts = [f'<div class="pane" aria-busy="{str(busy).lower()}">']
    parts.append(f'<p class="model"><span>{escape(pane.model)}</span>{_state(pane)}</p>')
    for number, turn in enumerate(pane.turns):
        parts.append(f'<p class="asked"><b>You</b> {_lines(turn.question)}</p>')
        if not number and pane.remark:
            parts.append(f'<p class="remark">{escape(pane.remark)}</p>')
        parts.append(_answer(turn, first=not number))
    return "".join([*parts, "</div>"])


def read(text: str) -> RecipeCard:
    """Read an answer as a recipe; a number that stands on a line of its own belongs to the next one."""
    return parse(re.sub(r"(?m)^(\s*\d{1,3}[.)])[ \t]*\n\s*", r"\1 ", text))


def message(text: str, kind: str = "fault") -> str:
    """Return a message in a box: a fault, or a hint."""
    role = "alert" if kind == "fault" else "status"
    return f'<p class="{kind}" role="{role}">{escape(text)}</p>'


def progress(text: str) -> str:
    """Return a bar that moves, with a word on what is being done."""
    return f'<div class="loading" role="status"><progress></progress><span>{escape(text)}</span></div>'


def markdown(text: str) -> str:
    """Return an answer as Markdown that shows the same everywhere: one shape, and all else escaped."""
    card = read(text)
    if not (card.title or card.ingredients or card.steps):
        return "\n\n".join(map(_inert, text.split("\n\n"))) + "\n"
    facts = [f"Serves {_inert(card.servings)}"] if card.servings else []
    facts += [_inert(card.time)] if card.time else []
    parts = [f"# {_inert(card.title)}"] if card.title else []
    parts += [" · ".join(facts), *map(_inert, card.intro)]
    if card.ingredients:
        parts += ["## Ingredients", "\n".join(f"- {_inert(item)}" for item in card.ingredients)]
    if card.steps:
        steps = (step.split("\n") for step in card.steps)
        lines = [
            "\n".join([f"{number}. {_inert(first)}", *(f"   - {_inert(line)}" for line in more)])
            for number, (first, *more) in enumerate(steps, 1)
        ]
        parts += ["## Steps", "\n".join(lines)]
    if card.tips:
        parts += ["## Tips", "\n".join(f"- {_inert(tip)}" for tip in card.tips)]
    return "\n\n".join(part for part in parts if part) + "\n"


def file_name(text: str) -> str:
    """Return a name for a recipe's file: the title's letters and digits."""
    words = re.findall(r"[^\W_]+", read(text).title.lower())
    return "-".join(words)[:60] + ".md" if words else "recipe.md"


def _state(pane: Pane) -> str:
    turn = pane.turns[-1] if pane.turns else None
    if pane.loading:
        words = f"{pane.loading} …"
    elif turn is None or turn.state in ("ended", "failed"):
        return ""
    elif turn.state == "waiting":
        words = f"{turn.ahead} ahead of you …" if turn.ahead else "about to begin …"
    else:
        words = {"generating": "generating …", "cut off": "cut off: too long"}.get(turn.state, turn.state)
    return f'<span class="state" role="status">{escape(words)}</span>'


def _answer(turn: Turn, first: bool) -> str:
    if turn.state == "failed":
        return message(turn.fault)
    if not turn.answer:
        waiting = turn.state in ("waiting", "generating")
        return '<div class="card blank" aria-hidden="true"></div>' if waiting and first else ""
    card = read(turn.answer)
    over = turn.state not in ("waiting", "generating")
    recipe = bool(card.ingredients or card.steps)
    if not first and not recipe:
        return f'<div class="reply"><b>Cook</b> {_paragraphs(turn.answer.split(chr(10)))}</div>'
    tools = _tools(turn.answer) if over else ""
    return f'<article class="card">{_body(card)}{tools}</article>'


def _body(card: RecipeCard) -> str:
    facts = [f"<span>Serves {escape(card.servings)}</span>"] if card.servings else []
    facts += [f"<span>{escape(card.time)}</span>"] if card.time else []
    parts = [f"<h2>{escape(card.title)}</h2>"] if card.title else []
    parts += [f'<p class="facts">{"".join(facts)}</p>'] if facts else []
    parts.append(_paragraphs(card.intro))
    if card.ingredients:
        items = "".join(f"<li>{escape(item)}</li>" for item in card.ingredients)
        parts.append(f'<section class="ingredients"><h3>Ingredients</h3><ul>{items}</ul></section>')
    if card.steps:
        kind = "ol" if card.numbered else "ul"
        items = "".join(f"<li>{_step(step)}</li>" for step in card.steps)
        parts.append(f'<section class="steps"><h3>Steps</h3><{kind}>{items}</{kind}></section>')
    if card.tips:
        items = "".join(f"<li>{escape(tip)}</li>" for tip in card.tips)
        parts.append(f'<section class="tips"><h3>Tips</h3><ul>{items}</ul></section>')
    return "".join(parts)


def _step(step: str) -> str:
    first, *more = step.split("\n")
    items = "".join(f"<li>{escape(line)}</li>" for line in more)
    return escape(first) + (f"<ul>{items}</ul>" if items else "")


def _tools(text: str) -> str:
    """Return the buttons that copy and save a recipe; head.html takes the text from an attribute."""
    data = f'data-markdown="{escape(markdown(text))}" data-name="{escape(file_name(text))}"'
    return (
        f'<p class="tools" {data}><button type="button" data-do="copy">Copy</button>'
        '<button type="button" data-do="save">Download</button><span role="status"></span></p>'
    )


def _paragraphs(lines: list[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines if line.strip())


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _inert(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", text.replace("&", "&amp;"))
