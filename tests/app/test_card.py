"""Answers as cards and as Markdown: all parts are there, and nothing in them is obeyed."""

from html.parser import HTMLParser

import pytest

from app.card import Pane, Turn, file_name, markdown, message, progress, read, render
from sft.evaluation.recipe_format import parse
from tests.evaluation.test_recipe_format import WHOLE

EVIL = (
    '<img src=x onerror="alert(1)"> <script>alert(2)</script> [me](javascript:alert(3)) '
    "![p](http://x.y/z.png) <b>b</b>"
)
OURS = {
    "div",
    "p",
    "span",
    "b",
    "br",
    "article",
    "section",
    "h2",
    "h3",
    "ul",
    "ol",
    "li",
    "button",
    "progress",
}


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("br",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def pane(answer, state="ended", question="What can I make with rice?", **more):
    return Pane("main", [Turn(question, answer, state, **more)])


def test_a_recipe_is_a_card_with_all_its_parts():
    html = render(pane(WHOLE))
    assert "<h2>Lemon Rice</h2>" in html and "<span>Serves 4</span><span>30 minutes</span>" in html
    assert "<ul><li>1 cup rice</li><li>2 lemons</li></ul>" in html
    assert (
        "<ol><li>Boil the rice:<ul><li>in water, or</li><li>in stock.</li></ul></li><li>Add 2 lemons." in html
    )
    assert "<h3>Tips</h3><ul><li>Serve with peas.</li></ul>" in html and 'data-do="save"' in html
    assert 'aria-busy="false"' in html


def test_prose_is_shown_as_it_is():
    html = render(pane("Boil the rice.\n\nAdd lemons."))
    assert "<p>Boil the rice.</p><p>Add lemons.</p>" in html and "<ol>" not in html


def test_a_number_on_its_own_line_belongs_to_its_step():
    assert read("Sure:\n1.\n\nBoil it.\n2.\n\nEat it.").steps == ["Boil it.", "Eat it."]


@pytest.mark.parametrize("state", ["waiting", "generating", "ended", "cut off", "stopped", "failed"])
@pytest.mark.parametrize(
    "answer", ["", EVIL, WHOLE, WHOLE.replace("Lemon", EVIL), f"# {EVIL}\n## Steps\n1. {EVIL}"]
)
def test_nothing_written_is_obeyed(answer, state):
    """Every tag and attribute is one of ours, whoever wrote the text; the text itself is all there."""
    turns = [Turn(EVIL, answer, state, EVIL, 2), Turn(EVIL, answer, state, EVIL)]
    tags = Tags(render(Pane(EVIL, turns, EVIL, EVIL)) + message(EVIL) + progress(EVIL))
    assert set(tags.tags) <= OURS
    names = {name for name, _ in tags.attributes}
    assert names <= {
        "class",
        "role",
        "aria-busy",
        "aria-hidden",
        "type",
        "data-do",
        "data-name",
        "data-markdown",
    }
    assert EVIL in tags.text


def test_states_are_told():
    assert "2 ahead of you" in render(pane("", "waiting", ahead=2))
    under_way = render(pane("# Ri", "generating"))
    assert "generating" in under_way and "Download" not in under_way
    assert "cut off: too long" in render(pane(WHOLE, "cut off"))
    assert 'role="alert">no such revision' in render(pane("", "failed", fault="no such revision"))
    loading = Pane("main", [Turn("q")], loading="reading the weights")
    assert "reading the weights …" in render(loading)


def test_a_follow_up_is_a_chat_and_another_recipe_a_card():
    turns = [Turn("q", WHOLE, "ended"), Turn("Without rice?", "No.", "ended"), Turn("Again?", WHOLE, "ended")]
    html = render(Pane("main", turns))
    assert html.count('<article class="card">') == 2
    assert '<div class="reply"><b>Cook</b> <p>No.</p></div>' in html


def test_markdown_of_a_recipe_reads_as_the_same_recipe():
    assert markdown(WHOLE) == WHOLE and file_name(WHOLE) == "lemon-rice.md"
    other = "**Lemon Rice**\nIngredients:\n* 1 cup rice\n\nDirections:\n1) Boil.\n2) Eat."
    assert markdown(other) == (
        "# Lemon Rice\n\n## Ingredients\n\n- 1 cup rice\n\n## Steps\n\n1. Boil.\n2. Eat.\n"
    )
    assert parse(markdown(other)).complete


def test_markdown_is_inert():
    for text in (EVIL, f"# {EVIL}\n\n## Ingredients\n- {EVIL}\n## Steps\n1. {EVIL}\n## Tips\n- {EVIL}"):
        for mark in ("<img", "<script", "[me](", "![p]"):
            assert mark in text and mark not in markdown(text).replace(f"\\{mark}", "")
    assert file_name("# ../../<b>etc\\passwd") == "b-etc-passwd.md" and file_name("No.") == "recipe.md"
