"""schema/params.json: current, all the params there are, and what an editor accepts and marks by it."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.params_schema import SCHEMA, build
from sft.core.params import leaves, load
from stages.cli import GROUPS
from tests.imports import ROOT

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
PARAMS = load(ROOT / "params.yaml")
FILES = ["params.yaml", *sorted(f"presets/{path.name}" for path in ROOT.glob("presets/*.yaml"))]
TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: TYPES["number"](value) and value == int(value),
}
# The keywords that our schema uses; one for texts or numbers says nothing of other values.
KEYWORDS: dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, kind: TYPES[kind](value),
    "enum": lambda value, words: value in words,
    "const": lambda value, word: value == word,
    "anyOf": lambda value, schemas: any(not list(faults(value, schema)) for schema in schemas),
    "pattern": lambda value, pattern: not isinstance(value, str) or bool(re.search(pattern, value)),
    "minLength": lambda value, least: not isinstance(value, str) or len(value) >= least,
    "minimum": lambda value, least: not TYPES["number"](value) or value >= least,
    "maximum": lambda value, most: not TYPES["number"](value) or value <= most,
}
INSIDE = {"items", "properties", "patternProperties", "additionalProperties"}
WORDS = {"$schema", "title", "description"}


def faults(value: Any, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """Yield where a value breaks a schema, as an editor marks it."""
    for keyword in set(schema) - INSIDE - WORDS:
        if not KEYWORDS[keyword](value, schema[keyword]):
            yield where
    for number, item in enumerate(value if isinstance(value, list) else []):
        yield from faults(item, schema.get("items", {}), f"{where}[{number}]")
    for name, inner in value.items() if isinstance(value, dict) else ():
        schemas = [entry for key, entry in schema.get("properties", {}).items() if key == name]
        patterns = schema.get("patternProperties", {})
        schemas += [entry for pattern, entry in patterns.items() if re.search(pattern, name)]
        if not schemas and schema.get("additionalProperties") is False:
            yield f"{where}.{name}".lstrip(".")
        for entry in schemas:
            yield from faults(inner, entry, f"{where}.{name}".lstrip("."))


def names(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, inner in schema["properties"].items():
        if "properties" in inner:
            yield from names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_file_is_current():
    written = json.loads((ROOT / SCHEMA).read_text(encoding="utf-8"))
    assert written == build(TEXT), "run python -m scripts.params_schema"


def test_it_has_the_params_that_there_are():
    ours = {leaf for leaf in leaves(PARAMS) if not leaf.startswith(tuple(f"{group}." for group in GROUPS))}
    assert set(names(build(TEXT))) - set(GROUPS) == ours


@pytest.mark.parametrize(
    "path", ["params.yaml", *sorted(f"presets/{p.name}" for p in ROOT.glob("presets/*"))]
)
def test_files_that_fit_and_name_it(path):
    assert list(faults(load(ROOT / path), build(TEXT))) == []
    first = (ROOT / path).read_text(encoding="utf-8").splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (ROOT / path).parent.joinpath(named).resolve() == ROOT / SCHEMA


@pytest.mark.parametrize(
    ("name", "values", "others"),
    [
        ("data.size", ["300k", "1.5M", "300_000", 300_000, 3e5], ["300kk", 0, 1.5, True, "many", None]),
        ("train.micro_batch", ["auto", 4, "4"], ["Auto", 0, False]),
        ("train.learning_rate", [2e-4, 1], ["fast", True]),
        ("train.gradient_checkpointing", ["auto", True], ["yes", 1]),
        ("tasks.recipe.holdout", [0, 0.5, 1], [-0.1, 1.5, "all"]),
        ("data.filters.near_duplicates", ["none", 0.8], ["some", 8]),
        ("data.filters.languages", ["any", ["en"]], ["all", [""], [3]]),
        ("tasks.haiku", [{"source": "a", "metrics": ["format"]}], [{"size": 3}, "recipe"]),
        ("train.engine", ["trl", "unsloth"], ["unslot", None]),
        ("train.lora", [{"r": 8}], [{"rank": 8}, 8, None]),
        ("data.base", [["a"], []], ["a", [1]]),
        ("data.weights", ["proportional", {"FineTome-100k": 0, "my": 2.5}], ["even", {"a": -1}, {"a b": 1}]),
    ],
)
def test_values_that_fit_and_others(name, values, others):
    schema = build(TEXT)
    for value, fits in [*((value, True) for value in values), *((value, False) for value in others)]:
        params = copy.deepcopy(PARAMS)
        group = params
        *path, last = name.split(".")
        for part in path:
            group = group[part]
        group[last] = value
        marked = list(faults(params, schema))
        assert all(where.startswith(name) for where in marked)
        assert bool(marked) != fits, value


def test_comments_are_the_descriptions():
    text = "data:\n  # One.\n  # Two.\n  seed: 1\n\n  # None's.\n\n  size: 2\n# Three.\nplot:\n  dpi: 1\n"
    properties = build(text)["properties"]
    assert properties["data"]["properties"]["seed"]["description"] == "One. Two."
    assert properties["plot"]["description"] == "Three."
    assert "description" not in properties["data"]["properties"]["size"] | properties["model"]
