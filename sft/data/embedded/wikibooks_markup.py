"""Cleaning the text of Wikibooks recipes: wiki markup, ingredient lines, and steps that are really tips."""

import html
import re

from sft.data.embedded.wordings import one_line
from sft.data.source_rows import Reason

_REPLACEMENTS = [
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in [
        (r"<ref\b[^<>]*/>", ""),
        (r"<ref\b[^<>]*>.*?(</ref>|$)", ""),
        (r"<br\s*/?>|\\n", ", "),
        (r"</?(?:[a-z]+)\b[^<>]*>", ""),
        (r"\{\{[^{}]*(\}\}|$)", ""),
        (r"\[\[(?:File|Image):[^\]]*(\]\]|$)", ""),
        # An image's caption is glued to the sentence before or after it.
        (r"^(?:left|right)?thumb\|[^|]*?[a-z.)](?=[A-Z])", ""),
        (r"(?:thumb\|.*|thumb)$", ""),
        (r"^thumb(?=[A-Z])", ""),
        (r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]", r"\1"),
        (r"\[https?:\S+\s*([^\]]*)\]", r"\1"),
        (r"\(\s*\w[\w ]*\|([\w ]+)\)", r"(\1)"),
        (r"'{2,}", ""),
        # What is left of unit templates that were not expanded: `1 cup () salt`, `1 large (1 cup/) onion`.
        (r"/\s*\)", ")"),
        (r"\(\s*/\s*", "("),
        (r"\(\s*\)", ""),
        (r"\s+([,.;:)])", r"\1"),
        (r",\s*,", ","),
    ]
]
_BROKEN = re.compile(r"\{\||\|\}|\{\{|\}\}|\[\[|\]\]|</?[a-z]|\w\|\w|https?:|class=", re.IGNORECASE)
# A sentence whose temperature or amount sat in a template that is gone: "Preheat oven to, or if you want".
_LOST_NUMBER = re.compile(
    r"\b(?:oven|fryer|grill|oil|water) (?:to|at)(?=\s*[,.;)]|\s+(?:and|or|for)\b)|\bat (?:for|until)\b"
    r"|\b(?:to|at|about) (?:°|degrees)|\babout for\b"
)


class MarkupReason(Reason):
    """What is broken in a line beyond repair."""

    MARKUP = "markup in the text"
    LOST_NUMBER = "a number is missing in the text"


def clean(text: str) -> str:
    """Return one line of a recipe without wiki markup, HTML, footnotes and empty parentheses."""
    # Some entities are escaped twice, and some markup is escaped itself.
    text = html.unescape(html.unescape(text))
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return one_line(text).strip(" ,;")


def fault(text: str) -> Reason | None:
    """Return what is broken in a cleaned line beyond repair, or None."""
    if _BROKEN.search(text):
        return MarkupReason.MARKUP
    if _LOST_NUMBER.search(text):
        return MarkupReason.LOST_NUMBER
    return None


def steps(lines: list[str]) -> list[str]:
    """Return the cleaned steps; lines that are a step's own list items are put under it as bullets."""
    cleaned: list[str] = []
    for line in lines:
        for part in re.split(r"\s+(?=[#*]{2,}\s*\w)", line):
            marks, text = re.match(r"([*#:;\s]*)(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
            text = clean(re.sub(r"(?<!&)#(?=[a-z])", "", text))
            if not text:
                continue
            text = text[0].upper() + text[1:]
            if cleaned and ("*" in marks or ":" in marks):
                cleaned[-1] += f"\n   - {text}"
            else:
                cleaned.append(text)
    return cleaned


_TIP = re.compile(
    "|".join(
        [
            r"(?:notes?|tips?|hints?|variations?|optional(?:ly)?)\b\s*[:.,)–—-]",
            r"\(optional\)|optionally\b|alternatively\b|as a variation|serving suggestion",
            r"(?:you|one) (?:can|may|could|might) also\b",
            r"if you (?:like|prefer|wish|want|desire|would like)\b",
            r"serve (?:it |them |this )?with\b|goes well with|best (?:served|eaten|enjoyed)\b",
            r"for (?:a|an|some|extra|more|added) \w+er\b",
            r"(?:can|may) (?:also )?be (?:served|stored|kept|frozen|eaten)\b",
            r"this (?:dish|recipe) (?:can|may|is|goes)\b|these (?:can|may|are|go|keep|will keep)\b",
            r"(?:the )?leftovers?\b|keeps? (?:well|for|in)\b",
            r"stores? (?:it|them|in|the|any|leftover|refrigerated|covered|up)\b",
            r"it is (?:best|also|often|usually|traditionally)\b",
        ]
    ),
    re.IGNORECASE,
)


def split_tips(lines: list[str]) -> tuple[list[str], list[str]]:
    """Split steps into those that the dish needs and remarks: servings, variations, storage."""
    needed = [line for line in lines if not _TIP.match(line)]
    if not needed:
        return lines, []
    return needed, [line for line in lines if _TIP.match(line)]
