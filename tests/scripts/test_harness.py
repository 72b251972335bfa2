"""scripts.harness on tasks with local data: the scores of lm-eval's own command line, and what comes of them.

The tests that run lm-eval are skipped where it is not installed; `make test` installs it.
"""

import argparse
import contextlib
import csv
import functools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from transformers import AutoTokenizer

from scripts import harness, harness_tasks
from sft.core.errors import UserError
from sft.core.params import load
from stages.cli import described
from tests.hub_server import HubServer
from tests.pipeline_repo import Repo
from tests.tiny import save_tokenizer

pytestmark = pytest.mark.long
CHOICES = ["apple", "bread", "cheese", "dough", "egg", "flour", "garlic", "honey"]
QUESTION = """
task: own_choice
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ANSWER = """
task: own_answer
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[label]}}"
generation_kwargs: {until: [], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match}, {metric: chrf}]
"""
DATA = "dataset_path: json\ndataset_kwargs: {data_files: own/questions.jsonl}\ntest_split: train\n"
OPTIONS = ("--tasks", "own_choice", "own_answer", "--include-path", "own")


def add_tasks(repo: Repo) -> None:
    """Write two tasks on 24 questions: one of choices, one that generates."""
    (repo.path / "own").mkdir()
    rows = [
        {"question": f"Number {i}: which is {i % 3}?", "choices": (CHOICES * 2)[i % 8 :][:3], "label": i % 3}
        for i in range(24)
    ]
    (repo.path / "own" / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in (("choice", QUESTION), ("answer", ANSWER)):
        (repo.path / "own" / f"{name}.yaml").write_text(task + DATA)
    repo.commit("tasks")


@pytest.fixture(scope="module")
def ran(built: Repo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Repo, str]:
    """Run the benchmarks in a copy of the repository; return it and what they printed."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: make install-harness")
    repo = built.copy(tmp_path_factory.mktemp("harness") / "repo")
    add_tasks(repo)
    return repo, repo.script("harness", *OPTIONS).stdout


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what this process reads through lm-eval out of the user's own cache."""
    import datasets

    folder = tmp_path_factory.mktemp("datasets")
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", folder):
        yield


@contextlib.contextmanager
def without_its_own_tasks() -> Iterator[None]:
    """Have lm-eval know the tasks of the folder that is named, not its own, whose files take five seconds."""
    from lm_eval import tasks

    own = functools.partial(tasks.TaskManager, include_defaults=False)
    with mock.patch.object(tasks, "TaskManager", own):
        yield


def lm_eval(folder: Path, env: dict[str, str], *arguments: str) -> None:
    """Run lm-eval's own command line in this process."""
    from lm_eval.__main__ import cli_evaluate

    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, env, clear=True),
        without_its_own_tasks(),
        mock.patch.object(sys, "argv", ["lm_eval", *arguments]),
    ):
        cli_evaluate()


def scores_of(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["task"], metric): {r["example"]: float(r[metric]) for r in rows if r["task"] == row["task"]}
        for row in rows
        for metric in row
        if metric not in ("task", "example") and row[metric]
    }


@pytest.mark.parametrize("model", ["base", "adapter"])
def test_the_scores_are_those_of_lm_evals_own_command_line(
    ran: tuple[Repo, str], model: str, tmp_path: Path
) -> None:
    repo, _ = ran
    dtype = load(repo.path / "params.yaml")["model"]["dtype"]
    arguments = f"pretrained=tiny-model,dtype={dtype}{',peft=models/adapter' if model == 'adapter' else ''}"
    command = ["--model", "hf", "--model_args", arguments, "--device", "cpu"]
    command += ["--tasks", "own_choice,own_answer", "--include_path", "own", "--apply_chat_template"]
    command += ["--batch_size", "4", "--log_samples", "--output_path", str(tmp_path)]
    lm_eval(repo.path, repo.env, *command)
    (found,) = tmp_path.glob("*/results_*.json")
    theirs, ours = json.loads(found.read_text())["results"], repo.json("metrics/harness.json")
    compared = 0
    for task in ("own_choice", "own_answer"):
        for metric, cell in ours[task].items():
            assert cell[model] == pytest.approx(theirs[task][f"{metric},none"], abs=1e-6)
            error = theirs[task][f"{metric}_stderr,none"]
            assert cell[f"{model}_stderr"] == pytest.approx(error, abs=1e-6)
            compared += 1
        samples = [
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in (
                repo.path / "data/harness" / model / f"{task}.jsonl",
                *tmp_path.rglob(f"*_{task}_*.jsonl"),
            )
        ]
        for mine, their in zip(*samples, strict=True):
            assert mine["doc"] == their["doc"] and mine["prompt_hash"] == their["prompt_hash"]
            # It writes numbers as texts.
            assert str(mine["filtered_resps"]).replace("'", "") == str(their["filtered_resps"]).replace(
                "'", ""
            )
    assert compared == 4


def test_what_is_written(ran: tuple[Repo, str]) -> None:
    repo, said = ran
    base, adapter = (scores_of(repo.path / f"scores/harness_{name}.csv") for name in ("base", "adapter"))
    metrics = repo.json("metrics/harness.json")
    assert list(base) == [("own_choice", "acc"), ("own_choice", "acc_norm"), ("own_answer", "exact_match")]
    for (task, metric), of in adapter.items():
        assert len(of) == 24 and list(of) == list(base[task, metric])
        assert sum(of.values()) / 24 == pytest.approx(metrics[task][metric]["adapter"], abs=1e-6)
    assert base != adapter, "the adapter was not there"
    text = (repo.path / "scores/harness_base.csv").read_text()
    assert "Number" not in text and "apple" not in text
    record = repo.json("provenance/harness.json")
    assert record["adapter"] == repo.lock()["train"]["models/adapter"]
    assert record["tasks"]["own_choice"]["examples"] == 24 and record["data"] == {}
    verdict, beside = said.splitlines()[-2:]
    assert "the base model" in verdict and "own_choice (acc, acc_norm)" in verdict and verdict.endswith(".")
    assert beside == "No mean over examples, so not judged: chrf of own_answer."
    assert said.count("95% interval") == 3
    written = repo.git("status", "--short", "--untracked-files=all").split("\n")[:-1]
    assert sorted(written) == [
        "?? metrics/dvc.yaml",
        "?? metrics/harness.json",
        "?? provenance/harness.json",
        "?? scores/harness_adapter.csv",
        "?? scores/harness_base.csv",
    ]


def test_dvc_shows_it_where_it_ran_and_runs_nothing_for_it(ran: tuple[Repo, str], built: Repo) -> None:
    repo, _ = ran
    said = built.dvc_here("metrics", "diff")
    assert "harness" not in said and "failed to load" not in said
    said = repo.dvc_here("metrics", "diff")
    shown = {line.split()[1] for line in said.splitlines() if "harness.json" in line}
    assert {"own_choice.acc.adapter", "own_choice.acc.adapter_stderr", "own_answer.chrf.base"} <= shown
    assert repo.changed_stages() == set()
    assert "Running stage" not in repo.dvc_here("repro", "--dry")


def test_compare_pairs_the_samples_of_two_adapters(ran: tuple[Repo, str], tmp_path: Path) -> None:
    first, _ = ran
    repo = first.copy(tmp_path / "repo")
    assert "enchmark" not in repo.script("compare", "main", "main~1").stdout
    repo.commit("benchmarks")
    repo.set_params({"train.learning_rate": 0.05, "train.budget": "8 steps"})
    repo.dvc_here("repro", "evaluate")
    text = repo.script("compare", "main", "workspace").stdout
    assert "No benchmarks of workspace: they ran on another adapter than its dvc.lock has" in text
    before = set((repo.path / "data/harness/cache").iterdir())
    repo.script("harness", *OPTIONS)
    (new,) = set((repo.path / "data/harness/cache").iterdir()) - before
    assert new.name.startswith("adapter-"), "the base model was scored again"
    text = repo.script("compare", "main", "workspace").stdout
    section = text.partition("## Benchmarks, against main\n")[2]
    cells = {tuple(line.split(" | ")[1:3]): line.split(" | ") for line in section.splitlines()}
    was, now = (
        scores_of(of.path / "scores/harness_adapter.csv")["own_choice", "acc"] for of in (first, repo)
    )
    row = cells["own_choice", "acc"]
    assert row[3] == "24" and float(row[4]) == pytest.approx(
        (sum(now.values()) - sum(was.values())) / 24, abs=1e-4
    )
    assert "for these 3 comparisons" in section and "No benchmarks" not in text
    # Cut short, the second file would leave nothing to pair.
    scores = repo.path / "scores/harness_adapter.csv"
    scores.write_text("".join(scores.read_text().splitlines(keepends=True)[:20]))
    text = repo.script("compare", "main", "workspace").stdout
    assert "Not compared: own_choice of workspace, whose examples are not main's" in text


def fault(repo: Repo, **options: Any) -> str:
    """Return what the command would print of a fault."""
    given = {"tasks": ["own_choice"], "limit": 2, "include_path": "own", "pin": []} | options
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(repo.path))
        stack.enter_context(mock.patch.dict(os.environ, repo.env, clear=True))
        raised = stack.enter_context(pytest.raises(UserError))
        harness.main(load("params.yaml"), argparse.Namespace(**given))
    message = described(raised.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("names", "include_path", "read"),
    [(["mine"], "own", [False]), (["mine", "a_group"], "own", [False, True]), (["mine"], None, [True])],
)
def test_lm_evals_own_tasks_are_read_where_they_may_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, names: list[str], include_path: str | None, read: list[bool]
) -> None:
    """A group or a tag of one's own may have members among them."""
    tasks = pytest.importorskip("lm_eval.tasks", reason="make install-harness")
    made = []

    def manager(include_path: str | None = None, include_defaults: bool = True) -> mock.Mock:
        made.append(include_defaults)
        return mock.Mock(all_subtasks=["mine"])

    monkeypatch.setattr(tasks, "TaskManager", manager)
    harness_tasks._manager(names, include_path)
    assert made == read


THINKING = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "<think>{{ m.reasoning_content or '' }}</think>{% endif %}{{ m.content }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("control", [["</think>"], []])
def test_thoughts_are_not_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: list[str]) -> None:
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="make install-harness")
    save_tokenizer(tmp_path, ["<|endoftext|>", *control], THINKING, eos_token="<|endoftext|>")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    end = tokenizer.convert_tokens_to_ids("</think>") if control else "</think>"
    made = mock.Mock()
    monkeypatch.setattr(huggingface, "HFLM", made)
    monkeypatch.setattr("lm_eval.simple_evaluate", mock.Mock())
    model = mock.Mock(device=mock.Mock(type="cpu"))
    harness.score(model, tokenizer, mock.Mock(objects=[]), None, 1, "answers")
    assert made.call_args.kwargs["think_end_token"] == end


def test_what_answers_come_from(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, ["<|endoftext|>"], eos_token="<|endoftext|>")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    base, params = mock.Mock(revision=None, path=tmp_path), mock.Mock(dtype="float32", load_in_4bit=False)
    assert harness.end_of_thoughts(tokenizer) is None
    before = harness.identity_of(base, params, tokenizer)
    for name in (".cache", ".git", "runs.old"):
        (tmp_path / name).mkdir()
    (tmp_path / ".gitattributes").write_text("")
    assert harness.identity_of(base, params, tokenizer) == before
    tokenizer.chat_template = THINKING
    assert harness.identity_of(base, params, tokenizer) != before


def test_without_lm_eval(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)
    assert "lm-eval is not installed. make harness installs it, or: pip install -r" in fault(built)


def test_faults_of_tasks_are_sentences(ran: tuple[Repo, str], monkeypatch: pytest.MonkeyPatch) -> None:
    repo, _ = ran
    with without_its_own_tasks():
        found = fault(repo, tasks=["own_choise"])
    assert "own_choise: lm-eval has no such task or a YAML file under own" in found
    assert "The nearest: own_choice" in found
    assert "--include-path nowhere: no such folder" in fault(repo, include_path="nowhere")
    assert "--pin a/b@main: write DATASET@COMMIT" in fault(repo, pin=["a/b@main"])
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: mock.Mock(sha="c0ffee"))
    assert "data of the hub needs a pin" in (found := fault(repo, tasks=["piqa"]))
    assert "--pin baber/piqa@c0ffee" in found


def test_data_that_cannot_be_loaded_and_a_task_that_does_not_fit(
    ran: tuple[Repo, str], tmp_path: Path
) -> None:
    repo, _ = ran
    for name, task, message in (
        (
            "gone",
            QUESTION + DATA.replace("questions", "gone"),
            "json (own/gone.jsonl): the data cannot be loaded",
        ),
        (
            "column",
            QUESTION.replace("{{question}}", "{{query.text}}") + DATA,
            "lm-eval cannot load this: UndefinedError: 'query' is undefined.",
        ),
        (
            "long",
            ANSWER.replace("toks: 8", "toks: 99999") + DATA,
            "cannot score this model: AssertionError: Invalid",
        ),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "task.yaml").write_text(task)
        named = "own_answer" if name == "long" else "own_choice"
        assert message in fault(repo, tasks=[named], include_path=str(folder))


def test_no_adapter_and_one_of_another_model(ran: tuple[Repo, str], tmp_path: Path) -> None:
    repo = ran[0].copy(tmp_path / "repo")
    config = repo.path / "models/adapter/adapter_config.json"
    text = config.read_text()
    config.unlink()
    config.write_text(text.replace("tiny-model", "other-model"))
    assert "models/adapter was trained on other-model" in fault(repo)
    config.write_text(text)
    damage(repo.path / "models/adapter/adapter_model.safetensors")
    assert "models/adapter: damaged: it holds weights that are no finite numbers" in fault(repo)
    shutil.rmtree(repo.path / "models/adapter")
    assert "Run the stage that writes it: dvc repro train" in fault(repo)


def damage(path: Path) -> None:
    """Put one NaN into weights."""
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    path.unlink()  # a link into DVC's cache, maybe
    save_file(weights, path)


def test_data_of_the_hub_is_read_at_its_pin(ran: tuple[Repo, str], tmp_path: Path) -> None:
    repo = ran[0].copy(tmp_path / "repo")
    data = tmp_path / "hub" / "datasets" / "made" / "questions"
    data.mkdir(parents=True)
    shutil.copy(repo.path / "own/questions.jsonl", data / "questions.jsonl")
    task = QUESTION + "dataset_path: made/questions\ntest_split: train\n"
    (repo.path / "own" / "choice.yaml").write_text(task)
    with HubServer(tmp_path / "hub") as hub:
        repo.extra_env |= hub.environment(tmp_path / "cache")
        command = ("python", "-m", "scripts.harness", "--tasks", "own_choice", *OPTIONS[3:], "--limit", "3")
        commit = hub.commit("datasets", "made/questions")
        repo.run(*command, "--pin", f"made/questions@{commit}")
    assert repo.json("provenance/harness.json")["data"] == {"made/questions": commit}
    assert repo.json("provenance/harness.json")["tasks"]["own_choice"]["examples"] == 3
    assert any(commit in path for _, path, _ in hub.requests)
