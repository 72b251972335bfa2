"""A recipe read from an answer's text: title, servings, time, ingredients, numbered steps, tips.

It takes what the training data looks like (sft.data.embedded.wikibooks_recipes) and the other shapes that
language models give a recipe: `## Steps`, `**Ingredients**`, `Instructions:`, `1.` or `1)`, bullets of any
kind.
"""

import re
from dataclasses import dataclass, field
from itertools import pairwise

_SECTIONS = {
    "ingredients": (
        r"(?:the |main )?ingredients?(?: list| needed)?|(?:what )?you(?:'ll| will)? need|shopping list"
    ),
    "steps": (
        r"(?:cooking |preparation |step[- ]by[- ]step )?(?:steps?|instructions?|directions?|method|procedure)"
        r"|preparation|how to (?:make|prepare|cook)\b.*"
    ),
    "tips": (
        r"(?:(?:cooking|serving|storage|chef's) )?(?:tips?|notes?|hints?|variations?|suggestions?)"
        r"(?: (?:and|&) \w+)*"
    ),
}
_SECTION = {
    name: re.compile(rf"(?:{pattern})(?:\s+for\s.*|\s*\([^()]*\))?", re.IGNORECASE)
    for name, pattern in _SECTIONS.items()
}
_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*|(\*\*|__)(?!\s)(.+?)(?<!\s)\2:?")
_NAMED = re.compile(r"(?:recipe(?: name)?|title|dish|name)\s*:\s*(.+)", re.IGNORECASE)
_INLINE = re.compile(r"([\w' -]{3,40}?)\s*:\s+(\S.*)")
_BULLET = re.compile(r"[-*•–+]\s+(.*)")
_NUMBER = re.compile(r"(?:step\s+)?\(?\d{1,3}\s*[.):](?:\s+|(?=[^\d\s]))(.*)", re.IGNORECASE)
_SERVINGS = re.compile(
    r"(?:serves|servings?|yields?|makes|portions?)\b\s*:?\s*(\S.*)|(\d+\S*) (?:servings?|portions?)",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\b(?:min(?:ute)?s?|h(?:ou)?rs?|days?|weeks?|months?|(?:over)?night)\b|^[\w ]*\btime\s*:", re.IGNORECASE
)
_EMPHASIS = re.compile(r"(\*\*|__|`)(?=\S)(.+?)(?<=\S)\1")
MOST_FACT, MOST_TITLE = 120, 100  # characters; a longer line is a sentence


@dataclass
class RecipeCard:
    """The parts of a recipe, as plain lines; `intro` is text before the sections that is neither of them.

    `numbered` tells whether the steps have numbers. A step's own list items are further lines in it.
    """

    title: str = ""
    servings: str = ""
    time: str = ""
    intro: list[str] = field(default_factory=list)
    ingredients: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    tips: list[str] = field(default_factory=list)
    numbered: bool = False

    @property
    def complete(self) -> bool:
        """Tell whether there are a title, an ingredient at least, and numbered steps."""
        return bool(self.title and self.ingredients and self.steps and self.numbered)


def parse(text: str) -> RecipeCard:
    """Read a recipe, or as much of one as the text holds."""
    reader = _Reader()
    lines = [line for line in text.splitlines() if line.strip()]
    for line, following in pairwise([*lines, ""]):
        reader.read(line, following)
    return reader.card


def plain(text: str) -> str:
    """Return one line without Markdown's emphasis, white space made single blanks."""
    while (shorter := _EMPHASIS.sub(r"\2", text)) != text:
        text = shorter
    return " ".join(text.split())


class _Reader:
    """Where in a recipe the next line stands."""

    def __init__(self) -> None:
        self.card = RecipeCard()
        self.section = "intro"
        self.bulleted = False  # the ingredients so far have bullets
        self.group = ""  # a heading inside a section, such as `For the sauce`
        self.first = True

    def read(self, line: str, following: str) -> None:
        """Add a line to the card; `following` is the next one."""
        text, heading = _unmarked(line)
        first, self.first = self.first, False
        if section := _section(text, heading):
            self.section, self.group = section, ""
            if inline := _INLINE.fullmatch(text):
                for part in inline[2].split(",") if section == "ingredients" else [inline[2]]:
                    self._add(part, indented=False)
        elif self.section == "intro" and not (numbered := _NUMBER.fullmatch(text)):
            self._introduce(text, heading or (first and _stands_alone(text, following)))
        elif self.section == "intro" and numbered:
            self.section = "steps"
            self._add(text, indented=False)
        elif heading and not _NUMBER.fullmatch(text):
            self.group = text.rstrip(": ")
        else:
            self._add(text, indented=line[0] in " \t")

    def _introduce(self, text: str, heading: bool) -> None:
        card, named = self.card, _NAMED.fullmatch(text)
        if not card.title and (named or heading) and len(text) <= MOST_TITLE:
            title = (named[1] if named else text).strip(" :")
            if _has_word(title):
                card.title = title
                return
        parts = re.split(r"\s[·|]\s", text)
        if not (card.title and len(text) <= MOST_FACT and any(map(_is_fact, parts))):
            card.intro.append(text)
            return
        for part in parts:
            if servings := _SERVINGS.fullmatch(part):
                card.servings = card.servings or servings[1] or servings[2]
            else:
                card.time = ", ".join(filter(None, [card.time, part]))

    def _add(self, text: str, indented: bool) -> None:
        card = self.card
        bullet, numbered = _BULLET.fullmatch(text), _NUMBER.fullmatch(text)
        content = (bullet or numbered)[1] if bullet or numbered else text.strip()  # type: ignore[index]
        if not _has_word(content):
            return
        # Numbers after bullets are steps that lack a heading; numbers from the start are ingredients.
        if self.section == "ingredients" and numbered and self.bulleted:
            self.section = "steps"
        if self.section == "steps" and card.numbered and not (numbered and not indented):
            card.steps[-1] += f"\n{content}"
            return
        if self.group:
            content, self.group = f"{self.group}: {content}", ""
        if self.section == "ingredients":
            self.bulleted = self.bulleted or bool(bullet)
            card.ingredients.append(content)
        elif self.section == "steps":
            card.numbered = card.numbered or bool(numbered)
            card.steps.append(content)
        else:
            card.tips.append(content)


def _unmarked(line: str) -> tuple[str, bool]:
    """Return a line's text without the marks of a heading and emphasis, and whether it is a heading."""
    heading = _HEADING.fullmatch(line.strip())
    return plain((heading[1] or heading[3]) if heading else line), bool(heading)


def _section(text: str, heading: bool) -> str | None:
    """Return the section that a line begins: `Ingredients`, `Ingredients:` or `Ingredients: salt, water`."""
    inline, bare = _INLINE.fullmatch(text), text.rstrip(": ")
    for section, pattern in _SECTION.items():
        # Without a mark, several words may be the beginning of a sentence.
        if pattern.fullmatch(bare) and (heading or text.endswith(":") or " " not in bare):
            return section
        if inline and section != "steps" and pattern.fullmatch(inline[1]):
            return section
    return None


def _stands_alone(text: str, following: str) -> bool:
    """Tell whether the first line is a title without a mark: short, no sentence, a section or facts next."""
    after, heading = _unmarked(following)
    known = _section(after, heading) or _is_fact(after)
    short = len(text.split()) <= 10 and text[-1] not in ".!?:,;"
    return bool(known) and short and not _is_fact(text)


def _is_fact(text: str) -> bool:
    """Tell whether a short line says for how many a dish is, or how long it takes."""
    sentence = len(text.split()) > 4 and text.endswith((".", "!", "?", ":"))
    return not sentence and bool(_SERVINGS.fullmatch(text) or _TIME.search(text))


def _has_word(text: str) -> bool:
    return any(character.isalpha() for character in text)
