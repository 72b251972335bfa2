"""What is known of packages: the page on data says the same, and nothing is known of anything else."""

import re

import pytest

from sft.card.licences import PACKAGES, languages_of, licence_of
from sft.core.params import load
from sft.data.embedded import READERS
from sft.fetch.uri import parse
from tests.imports import ROOT


def test_the_page_says_the_same() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` [\d.]+ \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert {name: (what, licence) for name, what, licence in rows} == {
        name: (package.what, package.licence) for name, package in PACKAGES.items()
    }


def test_all_of_the_default_is_known() -> None:
    params = load(ROOT / "params.yaml")
    uris = [params["model"]["reference"], *params["data"]["base"], *params["data"]["extra"]]
    assert not [uri for uri in uris if licence_of(parse(uri)).startswith("unknown")]
    assert READERS.keys() <= PACKAGES.keys()


@pytest.mark.parametrize(
    "uri",
    ["hf://datasets/org/rows@main", "hf://org/model@main", "pypi://other-package==1.0", "data/raw/a.jsonl"],
)
def test_of_anything_else_the_licence_is_not_guessed(uri: str) -> None:
    assert licence_of(parse(uri)).startswith("unknown")


def test_languages_are_known_of_all_or_of_none() -> None:
    assert languages_of(["chitchat", "dictionary-fr"]) == ["en", "fr"]
    assert languages_of(["chitchat", "data/raw/a.jsonl"]) == [] == languages_of([])
