"""What a person types, made into the conversation that the model was trained to answer.

The wording is one of the training data's own (sft.data.embedded.wikibooks_recipes). A diet, a cuisine and
servings go into it where they say nothing new about its shape; without them the prompt is, to the letter, a
training prompt.
"""

import re
import unicodedata
from dataclasses import dataclass

from sft.core.errors import UserError

Messages = list[dict[str, str]]

WORDING = "These are my ingredients: {names}. Give me a recipe with steps and tips."
MOST_CHARACTERS, MOST_INGREDIENTS, MOST_FOLLOW_UP = 500, 40, 500
MOST_WISH = 40  # characters of a diet or cuisine that is typed
MOST_SERVINGS = 50
MOST_TOKENS = 768  # of an answer, if not said otherwise; recipes have 240 in the mean
MOST_ANSWER = 1024  # that can be asked for: a conversation has to fit beside it
DIETS = ["vegetarian", "vegan", "gluten-free", "dairy-free", "low-carb"]
CUISINES = ["Italian", "Mexican", "Indian", "Chinese", "French", "Thai", "Greek", "Moroccan"]
# What a terminal or a browser would obey instead of show: controls, and marks that turn text around.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
_JOINERS = "\u200c\u200d"  # of letters in some scripts, and of emoji


@dataclass(frozen=True)
class Wish:
    """Ingredients as they were typed, and what else is wished for; empty: no such wish."""

    ingredients: str
    diet: str = ""
    cuisine: str = ""
    servings: str = ""


def recipe(wish: Wish) -> Messages:
    """Return the conversation that asks for a recipe.

    Raises UserError for no ingredients, for more than fit, and for what names none.
    """
    names = ingredients(wish.ingredients)
    kind = " ".join(filter(None, [_word(wish.diet, "diet"), _word(wish.cuisine, "cuisine")]))
    article = "an" if kind[:1].lower() in tuple("aeiou") else "a"
    dish = f"{article} {kind} recipe" if kind else "a recipe"
    if servings := visible(wish.servings[:100]).strip():
        number = int(servings) if servings.isdecimal() and len(servings) < 5 else 0
        if not 1 <= number <= MOST_SERVINGS:
            raise UserError(f"Servings: {servings[:20]} is no number from 1 to {MOST_SERVINGS}.")
        dish += f" for {number} {'person' if number == 1 else 'people'}"
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    wording = WORDING.replace("a recipe", dish)
    return [{"role": "user", "content": wording.replace("{names}", listed)}]


def follow_up(conversation: Messages, text: str) -> Messages:
    """Return the conversation with another question; raises UserError for none or a long one."""
    if len(text) > MOST_FOLLOW_UP:
        raise UserError(f"That is {len(text):,} characters. Ask in {MOST_FOLLOW_UP} at most.")
    question = visible(text).strip()
    if not question:
        raise UserError("Type a question about the recipe first.")
    return [*conversation, {"role": "user", "content": question}]


def ingredients(text: str) -> list[str]:
    """Return the ingredients of a list: by commas, semicolons, lines or bullets, each of them once."""
    if len(text) > MOST_CHARACTERS:
        raise UserError(
            f"That list is {len(text):,} characters long, and {MOST_CHARACTERS} are read at most. "
            "Name the main ingredients only."
        )
    text = visible(text)
    parts = re.split(r"[,;\n•，、；،]", text)
    # `rice, and lemon`: the end of a list. `mac and cheese` may be one thing or two, and reads alike.
    names = [re.sub(r"^\s*[-*]\s|^\s*(?:and|&)\s", "", part) for part in parts]
    names = [" ".join(name.split()).strip(" .") for name in names]
    names = list(dict.fromkeys(name for name in names if any(map(str.isalpha, name))))
    if not text.strip():
        raise UserError("Name at least one ingredient, such as: chicken, rice, lemon.")
    if not names:
        raise UserError("There is no ingredient in that. Name some in words, such as: chicken, rice, lemon.")
    if len(names) > MOST_INGREDIENTS:
        raise UserError(
            f"Those are {len(names)} ingredients, and {MOST_INGREDIENTS} are read at most. "
            "Name the main ones."
        )
    return names


def visible(text: str) -> str:
    """Return the text without characters that are not shown: controls, and marks of direction."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\t", " "))
    return "".join(c for c in text if c == "\n" or c in _JOINERS or unicodedata.category(c) not in _UNSEEN)


def other_script(text: str) -> bool:
    """Tell whether most letters are of another script than the Latin, in which nothing was trained."""
    letters = [character for character in text if character.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    return bool(letters) and latin < len(letters) / 2


def _word(text: str | None, what: str) -> str:
    text = text or ""
    word = " ".join(visible(text[: 10 * MOST_WISH]).split())
    if max(len(word), len(text) // 10) > MOST_WISH:
        raise UserError(f"The {what} is {len(text):,} characters long. Name it in {MOST_WISH} at most.")
    return word
