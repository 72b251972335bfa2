"""Faults that a user can mend, as the stage scripts report them: what, where, what to do, no traceback."""

import json
import re
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft.core.errors import UserError
from sft.core.files import write_json
from sft.evaluation import all_tasks, scores_file
from stages import same_as_before
from tests.pipeline_repo import Repo


def error(repo: Repo, *command: str) -> str:
    """Run a command that must exit with 1 and one error message; return the message."""
    result = repo.run(*command, ok=False)
    assert result.returncode == 1, result.stdout + result.stderr
    before, *messages = re.split(r"^error: ", result.stderr, flags=re.MULTILINE)
    assert "Traceback" not in before and len(messages) == 1, result.stderr
    return messages[0]


def stage(repo: Repo, name: str, *arguments: str) -> str:
    """Run a stage, in this process, that must exit with one error message; return the message."""
    message = repo.stage(name, *arguments)
    assert isinstance(message, str), message
    before, *messages = re.split(r"^error: ", message, flags=re.MULTILINE)
    assert before == "" and len(messages) == 1, message
    return f"{messages[0]}\n"


def test_a_stage_of_its_own_process(repo: Repo) -> None:
    repo.set_params({"data.size": -5})
    message = error(repo, "python", "-m", "stages.mix")
    assert message == stage(repo, "mix")


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("size", ["300kk", -5, 0, "", 1.5, True, None, [100]])
def test_a_size_that_is_none(repo: Repo, size: object) -> None:
    repo.set_params({"data.size": size})
    message = stage(repo, "mix")
    assert message.startswith(f"params.yaml: data.size: {size!r} is not a positive whole number")
    assert "100k" in message


@pytest.mark.parametrize("size", [322, "1e9", "0.5M"])
def test_more_rows_than_there_are(repo: Repo, size: object) -> None:
    repo.set_params({"data.size": size})
    message = stage(repo, "mix")
    assert message.startswith("params.yaml: data.size: ") and "there are 321 (115 of base and 206" in message
    assert "data.extra" in message


def test_all_the_rows_there_are(repo: Repo) -> None:
    for size in (321, "all"):
        repo.set_params({"data.size": size})
        assert repo.stage("mix") is None
        assert repo.json("metrics/mix.json")["rows"] == 321


@pytest.mark.parametrize("name", ["standardize", "mix", "train", "plot"])
def test_a_misspelt_param_is_named_by_every_stage(repo: Repo, name: str) -> None:
    params = repo.path / "params.yaml"
    params.write_text(params.read_text().replace("  budget: 2 steps\n", "  bugdet: 2 steps\n"))
    message = stage(repo, name)
    assert "params.yaml: train.bugdet:" in message and "train.budget" in message


def test_a_param_that_is_missing(repo: Repo) -> None:
    params = repo.path / "params.yaml"
    params.write_text(params.read_text().replace("  budget: 2 steps\n", ""))
    assert stage(repo, "train").startswith("params.yaml: train.budget: missing.")


def test_params_that_are_not_yaml(repo: Repo) -> None:
    (repo.path / "params.yaml").write_text("data: [1,\n")
    assert stage(repo, "mix").startswith("params.yaml: not valid YAML")


def test_a_layer_that_the_model_has_not(repo: Repo) -> None:
    repo.set_params({"train.lora.target_modules": ["q_proj", "w_pack"]})
    message = stage(repo, "train")
    assert message.startswith("params.yaml: train.lora.target_modules: ") and "'w_pack'" in message
    assert "k_proj, lm_head, o_proj" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.lora.r": 0}, "params.yaml: train.lora.r: 0 is not"),
        ({"train.lora.dropout": 1.5}, "params.yaml: train.lora.dropout: 1.5 is not"),
        (
            {"train.micro_batch": 2, "train.batch_size": 3},
            "params.yaml: train.micro_batch: 2 does not divide",
        ),
        ({"train.max_length": 1}, "none of the 42 mix rows of kind definitions can be"),
        ({"train.engine": "unslot"}, "params.yaml: train.engine: 'unslot' is not one of trl, unsloth"),
        ({"model.dtype": "float16"}, "params.yaml: model.dtype: float16 trains on a GPU only"),
        ({"model.reference": "no-model"}, "params.yaml: model.reference: 'no-model' is no model"),
    ],
)
def test_params_that_cannot_train(repo: Repo, change: dict, message: str) -> None:
    repo.set_params(change)
    assert stage(repo, "train").startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluate.temperature": -1}, "params.yaml: evaluate.temperature: -1.0 is below 0"),
    ],
)
def test_params_that_cannot_evaluate(repo: Repo, change: dict, message: str) -> None:
    repo.set_params(change)
    assert stage(repo, "evaluate", "base").startswith(message)


@pytest.mark.parametrize("arguments", [[], ["both"], ["base", "adapter"]])
def test_evaluate_says_how_it_is_called(repo: Repo, arguments: list[str]) -> None:
    assert repo.stage("evaluate", *arguments) == "usage: python -m stages.evaluate base|adapter"


def test_a_wrong_checksum(repo: Repo) -> None:
    wrong = f"pypi://chatterbot-corpus==1.0?sha256={'0' * 64}"
    repo.set_params({"data.base": [wrong]})
    message = stage(repo, "standardize")
    assert message.startswith("pypi://chatterbot-corpus==1.0: wrong checksum. Expected sha256 0000")
    assert not list((repo.wheels.parent / "downloads" / "pypi").glob(f"{'0' * 64}/*"))


def test_a_source_that_the_index_has_not(repo: Repo) -> None:
    repo.set_params({"data.extra": [f"pypi://no-such-data==1.0?sha256={'1' * 64}"]})
    assert stage(repo, "standardize").startswith("pypi://no-such-data==1.0: the package index has no")


@pytest.mark.parametrize(
    ("param", "value", "message"),
    [
        ("data.base", [], "params.yaml: data.base: the list is empty"),
        ("data.base", ["data/raw/none.jsonl"], "data/raw/none.jsonl: no such file"),
        ("data.base", ["mine.jsonl"], "mine.jsonl: not under data/raw/"),
        ("data.extra", ["data/raw/../mine.jsonl"], "data/raw/../mine.jsonl: not under data/raw/"),
        ("tasks", {}, "params.yaml: tasks: there is none"),
        ("tasks.recipe.holdout", 0, "params.yaml: tasks.recipe.holdout: no item of pypi://ovos"),
        ("tasks.recipe.holdout", 1.5, "params.yaml: tasks.recipe.holdout: 1.5 is not a share from 0 to 1"),
        ("tasks.recipe", {"size": 3}, "params.yaml: tasks.recipe.size: a key in here cannot be called size"),
        ("tasks.recipe.metrics", ["rouge3"], "params.yaml: tasks.recipe.metrics: 'rouge3' is no metric"),
        ("tasks.recipe.source", "mine.jsonl", "mine.jsonl: not under data/raw/"),
        ("tasks.question.source", "data/raw/none.jsonl", "data/raw/none.jsonl: no such file"),
        ("data.holdout.validation", 1, "params.yaml: data.holdout: nothing of data.base is left"),
    ],
)
def test_params_that_cannot_standardize(repo: Repo, param: str, value: object, message: str) -> None:
    repo.set_params({param: value})
    assert stage(repo, "standardize").startswith(message)


@pytest.mark.parametrize(
    ("path", "file"), [("data/mix", "data/mix/000.parquet"), ("data/holdout/validation.parquet",) * 2]
)
def test_what_the_stage_before_writes_is_missing_or_cut_off(repo: Repo, path: str, file: str) -> None:
    (repo.path / path).rename(repo.path / "away")
    message = stage(repo, "train")
    writer = "mix" if "mix" in path else "standardize"
    assert message == f"{path}: no such file. Run the stage that writes it: dvc repro {writer}\n"
    (repo.path / "away").rename(repo.path / path)
    content = (repo.path / file).read_bytes()
    (repo.path / file).unlink()
    (repo.path / file).write_bytes(content[: len(content) // 2])
    message = stage(repo, "train")
    assert message.startswith(f"{file}: not a readable Parquet file") and "Delete it" in message


def test_more_rejects_than_allowed(repo: Repo) -> None:
    rows = [{"prompt": "Why?", "completion": f"Because {n}."} for n in range(95)]
    rows += [{"prompt": "Why?", "completion": None}] * 5
    path = repo.path / "data/raw/mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    repo.set_params({"data.extra": ["data/raw/mine.jsonl"]})
    message = stage(repo, "standardize")
    assert message.startswith(
        "data/raw/mine.jsonl: 5 of 100 rows cannot be understood, more than data.max_rejects"
    )
    assert message.count("  row ") == 5 and "row 95: " in message
    rejects = (repo.path / "data/standardized/rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in rejects] == [95, 96, 97, 98, 99]

    repo.set_params({"data.max_rejects": 0.05})
    assert repo.stage("standardize") is None
    source = repo.json("provenance/standardize.json")["sources"]["data/raw/mine.jsonl"]
    assert (source["rows"], source["rejects"]) == (95, 5)


@pytest.mark.parametrize(
    ("name", "blocks", "output", "written"),
    [
        ("mix", 2, "data/mix", "data/.mix.partial/000.parquet: cannot be written: "),
        ("standardize", 2, "data/standardized/base", "the rows cannot be written: "),
        ("train", 8, "models/adapter", "models/adapter: cannot be written: "),
    ],
)
def test_output_that_cannot_be_written_leaves_nothing(
    repo: Repo, name: str, blocks: int, output: str, written: str
) -> None:
    """A limit on the size of files (in KiB) stands for a full disk: the write fails half-way."""
    target = repo.path / output
    target.rename(repo.path / "before")
    message = error(repo, "bash", "-c", f"ulimit -f {blocks}; exec python -m stages.{name}")
    assert written in message and "Free disk space" in message
    assert not target.exists() and not leftovers(repo.path)


@pytest.mark.parametrize(
    ("lacking", "writer"),
    [
        ("metrics/baseline.json", "baseline"),
        ("metrics/evaluate.json", "evaluate"),
        ("plots/gain.csv", "evaluate"),
        ("plots/train_loss.csv", "train"),
    ],
)
def test_a_plot_without_what_it_draws(repo: Repo, lacking: str, writer: str) -> None:
    (repo.path / lacking).unlink()
    message = f"{lacking}: no such file. Run the stage that writes it: dvc repro {writer}\n"
    assert stage(repo, "plot") == message


@pytest.mark.parametrize("lacking", ["scores/baseline.csv", "models/adapter/adapter_config.json"])
def test_an_adapter_without_what_it_needs(repo: Repo, lacking: str) -> None:
    (repo.path / lacking).unlink()
    assert stage(repo, "evaluate", "adapter").startswith(f"{lacking}: no such file.")


def test_scores_of_the_base_model_that_are_damaged(repo: Repo) -> None:
    path = repo.path / "scores/baseline.csv"
    path.write_text(path.read_text().replace("bits_per_byte", "bits"))
    message = stage(repo, "evaluate", "adapter")
    assert message.startswith("scores/baseline.csv: damaged, or no file of scores: it has no column")


@pytest.fixture
def no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take generation away: what is at fault must be told of before the model answers."""
    monkeypatch.setattr(all_tasks, "answer_all", mock.Mock(side_effect=AssertionError("answers")))


@pytest.mark.parametrize("change", [{"evaluate.likelihood_examples": 2}, {"evaluate.examples": 3}])
def test_scores_of_the_base_model_on_other_examples(repo: Repo, change: dict, no_answers: None) -> None:
    repo.set_params(change)
    message = stage(repo, "evaluate", "adapter")
    assert message.startswith("scores/baseline.csv: its examples of the task 'recipe' are not those")
    assert message.endswith("Run baseline first: dvc repro baseline\n")


def test_a_task_that_the_base_model_has_not_been_scored_on(repo: Repo) -> None:
    scores = repo.path / "scores/baseline.csv"
    kept = [line for line in scores.read_text().splitlines() if ",question," not in line]
    scores.write_text("\n".join(kept) + "\n")
    message = stage(repo, "evaluate", "adapter")
    assert message.startswith("scores/baseline.csv: its examples of the task 'question' are not those")


@pytest.mark.parametrize("place", [0, 2])  # the third has a likelihood only
def test_an_example_that_the_template_refuses_is_named_before_any_is_answered(
    repo: Repo, place: int, no_answers: None
) -> None:
    path = repo.path / "data/holdout/evaluation.parquet"
    rows = pq.read_table(path).to_pylist()
    row = [row for row in rows if row["task"] == "question"][place]
    row["references"] = ["That <|im_end|>."]
    schema = pq.read_schema(path)
    path.unlink()  # it is a link into DVC's cache
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    message = stage(repo, "evaluate", "base")
    assert message.startswith(f"the example {row['id']} of the task 'question' cannot be scored: message 2 ")
    assert "holds <|im_end|>, a control token" in message


def test_a_weight_that_is_not_finite_is_told_of_before_any_example_is_answered(
    repo: Repo, no_answers: None
) -> None:
    from safetensors.torch import load_file, save_file

    weights = repo.path / "tiny-model/model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    before = (repo.path / "metrics/baseline.json").read_bytes()
    message = stage(repo, "evaluate", "base")
    assert re.match(r"bits per byte of the example \w{32} of the task 'recipe' is nan\. The weights", message)
    assert (repo.path / "metrics/baseline.json").read_bytes() == before


def test_a_base_model_that_is_another_than_the_stages_before_had(repo: Repo) -> None:
    scores = repo.path / "scores/baseline.csv"
    before = scores.read_text()
    scores.write_text(re.sub("^,", "0123456789ab,", before, flags=re.MULTILINE))
    message = stage(repo, "evaluate", "adapter")
    assert message.startswith("params.yaml: model.reference: tiny-model is another model now than when base")
    assert message.endswith(
        "(no revision now, 0123456789ab then). Run that stage again: dvc repro baseline\n"
    )
    scores.write_text(before)

    path = repo.path / "models/adapter/adapter_config.json"
    config = json.loads(path.read_text())
    path.unlink()  # it is a link into DVC's cache
    path.write_text(json.dumps(config | {"base_model_name_or_path": "hf://org/other"}))
    message = stage(repo, "evaluate", "adapter")
    assert "models/adapter was trained on hf://org/other" in message
    for damaged in ("{}", "[]"):
        path.write_text(damaged)
        message = stage(repo, "evaluate", "adapter")
        assert (
            message.startswith("models/adapter/adapter_config.json: damaged: ")
            and "dvc repro train" in message
        )


NEW, OLD = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("reference", "trained", "scored", "advice"),
    [
        ("hf://org/name@main", OLD, NEW, f"model.reference: hf://org/name@{OLD}"),
        ("hf://org/name", NEW, OLD, f"model.reference: hf://org/name@{NEW}"),
        ("hf://org/name", None, NEW, "older than this code. Train it again: dvc repro train"),
        ("pypi://some==1.0#a.gguf", OLD, NEW, "Run that stage again: dvc repro train"),
        ("pypi://some==1.0", NEW, OLD, "Run that stage again: dvc repro baseline"),
        ("pypi://some==1.0", None, NEW, "older than this code. Train it again: dvc repro train"),
        ("pypi://some==1.0", NEW, "", "Run that stage again: dvc repro baseline"),
    ],
)
def test_what_to_do_about_another_base_model(
    reference: str,
    trained: str | None,
    scored: str,
    advice: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(
        "models/adapter/adapter_config.json", {"base_model_name_or_path": reference, "revision": trained}
    )
    with pytest.raises(UserError) as told:
        same_as_before.check_base(reference, NEW, scores_of(scored))
    assert str(told.value).endswith(advice)
    write_json("models/adapter/adapter_config.json", {"base_model_name_or_path": reference, "revision": NEW})
    same_as_before.check_base(reference, NEW, scores_of(NEW))


def scores_of(revision: str) -> str:
    """Return a file of scores that has one likelihood."""
    return scores_file.as_csv([{"task": "recipe", "id": "0", "run": None, "bits_per_byte": 1.0}], revision)
