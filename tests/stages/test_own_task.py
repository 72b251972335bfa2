"""A task of one's own, from a file to the verdict, through real DVC: the README's own commands."""

import csv
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from sft.core.params import load
from tests.imports import ROOT
from tests.pipeline_repo import Repo, ran

MINE = "data/raw/mine.jsonl"
NAMES = [
    "Ann",
    "Bert",
    "Cleo",
    "Dora",
    "Emil",
    "Fay",
    "Gus",
    "Hope",
    "Ines",
    "Jack",
    "Kim",
    "Leo",
    "Mia",
    "Nils",
]
CITIES = ["Bonn", "Bern", "Cork", "Genf", "Kyiv", "Lima", "Oslo", "Paris", "Riga", "Rome", "Turin", "Wien"]
# What the pipeline's small repository has smaller values of, as the default has them.
DEFAULTS = (
    "data.holdout.validation",
    "data.holdout.validation_per_task",
    "train.max_length",
    "train.validation_rows",
    "evaluate.examples",
    "evaluate.likelihood_examples",
    "evaluate.runs",
)


def extraction(count: int) -> Iterator[dict[str, str]]:
    """Make rows of a task: fields of a sentence, as JSON."""
    draw = random.Random(1)
    for _ in range(count):
        fields = {
            "name": f"{draw.choice(NAMES)} {draw.choice(NAMES)}son",
            "city": draw.choice(CITIES),
            "born": draw.randint(1900, 2000),
        }
        text = f"{fields['name']}, born in {fields['born']}, has moved to {fields['city']}."
        yield {"prompt": f"Extract the fields as JSON: {text}", "completion": json.dumps(fields)}


def commands() -> str:
    """Return the README's example of one's own data."""
    part = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Your own data\n")[2]
    (block,) = re.findall(r"^```\n(.*?)^```$", part.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    return block


def write(repo: Repo, rows: Any, name: str = MINE) -> None:
    (repo.path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def default(name: str) -> Any:
    value: Any = load(ROOT / "params.yaml")
    for part in name.split("."):
        value = value[part]
    return value


def gains(repo: Repo) -> dict[tuple[str, str], str]:
    with (repo.path / "plots/gain.csv").open(newline="") as file:
        return {(row["task"], row["metric"]): row["verdict"] for row in csv.DictReader(file)}


@pytest.fixture
def own(repo: Repo) -> Repo:
    """Take the default's params, but for a model and a budget that take seconds."""
    repo.set_params({name: default(name) for name in DEFAULTS} | {"train.budget": "30 steps"})
    repo.commit("the default's params")
    return repo


def test_from_a_file_to_the_verdict_by_the_readme(own: Repo) -> None:
    write(own, extraction(300))
    block = commands()
    assert len(block.splitlines()) <= 6
    result = own.run("bash", "-euc", block)
    assert set(ran(result.stdout)) == {"standardize", "mix", "train", "baseline", "evaluate", "plot"}
    standardized = own.json("metrics/standardize.json")
    assert standardized["validation"] == {"mine": 32} and standardized["rejects"] == 0
    examples = standardized["evaluation"]["mine"]
    near = standardized["near_held_out"]
    assert 40 < examples < 80 and standardized["base_rows"] + near + examples + 32 in range(295, 301)
    assert own.json("provenance/train.json")["validation_rows"] == 32
    for name in ("baseline", "evaluate"):
        assert {"json_match", "bits_per_byte"} <= set(own.json(f"metrics/{name}.json")["mine"])
    found = gains(own)
    assert set(found) == {("mine", name) for name in ("bits_per_byte", "rouge1", "json_match")}
    assert found["mine", "bits_per_byte"] == "better"
    assert re.search(r"^Better than the base model in bits per byte", result.stdout, re.MULTILINE)
    if examples < 64:
        assert (
            f"mine: {examples} examples, all that are held out, not the 64 of evaluate.like" in result.stdout
        )
