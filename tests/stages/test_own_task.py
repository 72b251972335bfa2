"""A task of one's own, from a file to the verdict, through real DVC: the README's own commands."""

import csv
import json
import random
import re
import shlex
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


@pytest.mark.long
def test_from_a_file_to_the_verdict_by_the_readme(own: Repo) -> None:
    write(own, extraction(300))
    block = commands()
    assert len(block.splitlines()) <= 6
    output = ""
    for command in re.split(r"\n|&&", block.replace("\\\n", "")):
        match shlex.split(command):
            case ["git", *arguments]:
                own.git(*arguments)
            case ["dvc", *arguments]:
                output += own.dvc_here(*arguments)
    assert set(ran(output)) == {"standardize", "mix", "train", "baseline", "evaluate", "plot", "card"}
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
    assert re.search(r"^Better than the base model in bits per byte", output, re.MULTILINE)
    if examples < 64:
        assert f"mine: {examples} examples, all that are held out, not the 64 of evaluate.like" in output


# ChatML that prints tools and calls, as Qwen's template does.
CALLING = """{%- if tools %}{{- '<|im_start|>system\n' }}
{%- for tool in tools %}{{- tool | tojson + '\n' }}{%- endfor %}{{- '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{%- set said = {"name": call.function.name, "arguments": call.function.arguments} %}
{{- '<tool_call>\n' + said | tojson + '\n</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def calling(count: int) -> Iterator[dict[str, Any]]:
    """Make rows in which a tool is called and answers."""
    draw = random.Random(2)
    for number in range(count):
        city = f"{draw.choice(CITIES)} {number}"
        call = {"name": "get_weather", "arguments": json.dumps({"city": city})}
        yield {
            "tools": [WEATHER],
            "messages": [
                {"role": "user", "content": f"Is it warm in {city}?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": f"c{number}", "type": "function", "function": call}],
                },
                {
                    "role": "tool",
                    "tool_call_id": f"c{number}",
                    "name": "get_weather",
                    "content": "18 degrees",
                },
                {"role": "assistant", "content": "It has 18 degrees."},
            ],
        }


def choosing(count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(3)
    for number in range(count):
        choices = draw.sample(CITIES, 3)
        yield {"question": f"Where is street {number}?", "choices": choices, "answer": choices[0]}


@pytest.mark.long
def test_nine_tasks_without_the_dictionary_one_of_them_by_tool_calls(repo: Repo) -> None:
    """An embedded source and its task taken out, six tasks of one's own beside the three that are left."""
    (repo.path / "tiny-model/chat_template.jinja").write_text(CALLING, encoding="utf-8")
    files = {"mine": extraction(60), "tools": calling(60), "choices": choosing(60)}
    for name, rows in files.items():
        write(repo, rows, f"data/raw/{name}.jsonl")
    own = {
        "fields": ("mine", ["json_match", "json_valid"]),
        "exact": ("mine", ["exact_match"]),
        "plain": ("mine", []),
        "calls": ("tools", ["tool_call"]),
        "after_the_call": ("tools", []),
        "choose": ("choices", ["multiple_choice"]),
    }
    params = load(repo.path / "params.yaml")
    tasks = {name: task for name, task in params["tasks"].items() if name != "definition"}
    for name, (file, metrics) in own.items():
        source = f"data/raw/{file}.jsonl"
        tasks[name] = {"source": source, "holdout": 16, "max_new_tokens": 12, "metrics": metrics}
    base = [uri for uri in params["data"]["base"] if "#english" not in uri]
    base += [f"data/raw/{name}.jsonl" for name in files]
    repo.set_params(
        {
            "tasks": tasks,
            "data.base": base,
            "data.extra": [],
            "data.size": "all",
            "data.weights": "proportional",
            "train.max_length": 512,
            "train.budget": "8 steps",
            "evaluate.examples": 16,
            "evaluate.likelihood_examples": 16,
        }
    )
    repo.commit("nine tasks")
    output = repo.dvc_here("repro")
    assert "plots  plots/gain.png" in output
    standardized = repo.json("metrics/standardize.json")
    assert {name: standardized["evaluation"][name] for name in own} == dict.fromkeys(own, 16)
    assert standardized["rejects"] == 0 and repo.json("provenance/train.json")["refused"] == {}

    row = next(row for row in answers(repo) if row["task"] == "calls")
    city = row["prompt"][0]["content"].removeprefix("Is it warm in ").removesuffix("?")
    assert json.loads(row["references"][0]) == [{"name": "get_weather", "arguments": {"city": city}}]
    assert len(row["prompt"]) == 1 and json.loads(row["tools"]) == [WEATHER]
    later = next(row for row in answers(repo) if row["task"] == "after_the_call")
    assert [message["role"] for message in later["prompt"]] == ["user", "assistant", "tool"]

    found = gains(repo)
    assert {metric for task, metric in found if task == "calls"} == {"bits_per_byte", "rouge1", "tool_call"}
    assert ("choose", "multiple_choice") in found and ("fields", "json_match") in found
    repo.commit("run")
    report = repo.script("report", "--base", "main~1", "--fail-on", "never")
    assert "calls" in report.stdout and "definition" in report.stdout


def answers(repo: Repo) -> list[dict[str, Any]]:
    text = (repo.path / "data/answers/evaluate.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
