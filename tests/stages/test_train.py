"""The train stage in this process, on rows and a model made here."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sft.core import shards
from sft.core.errors import ParamError, UserError
from sft.core.params import leaves
from sft.training import tokenizing
from sft.training.checkpoints import Interrupted
from sft.training.engines import ENGINES
from sft.training.kinds_read import KindRead, summary
from stages import paths, reporting, train
from tests.chat_templates import ANSWER, ASKED, CALL, CHATML, RESULT, TOOLS, published
from tests.tiny import dialogue, folder_bytes, save_mix, save_model, save_shards, table
from tests.training.test_train import PARAMS

KINDS = ["few", "many", "many", "many", "off"]


@pytest.fixture
def values(tmp_path, monkeypatch):
    """Return params of a training of two steps; the stage runs in a folder that has what it reads."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "tiny")
    for path, count in ((paths.MIX, 30), (paths.VALIDATION, 10)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        rows = [dialogue(f"Question {n} for {path}?", "B" * (100 if n % 3 == 0 else 9)) for n in range(count)]
        made = table(rows, kinds=[KINDS[n % 5] for n in range(count)])
        if path == paths.VALIDATION:
            pq.write_table(made, path)
        else:
            save_mix(path, made, {"few": 6, "many": 20, "none": 3, "off": 6}, bits=1)
    for folder in ("models", "metrics", "plots", "provenance"):
        (tmp_path / folder).mkdir()
    settings = json.loads(json.dumps(dict(PARAMS), default=dict))
    settings |= {"budget": "2 steps", "max_length": 80, "too_long": "drop", "validation_rows": 4}
    return {
        "model": {"reference": "tiny", "dtype": "float32", "load_in_4bit": False},
        "data": {"weights": "proportional"},
        "train": settings,
    }


def write_mix(conversations, **columns):
    made = table(conversations, **columns)
    shutil.rmtree(paths.MIX)
    save_mix(paths.MIX, made, {"made": len(made)})


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def written():
    return read(paths.PROVENANCE_TRAIN)


def test_metrics_are_few_and_the_record_has_the_rest(values):
    train.main(values)
    metrics, record = read(paths.METRICS_TRAIN), written()
    assert list(metrics) == ["train_loss", "validation_loss", "rows", "tokens"]
    assert metrics["train_loss"] == record["train_loss"]["last"]
    assert metrics["validation_loss"] == record["validation_loss"]["end"]
    assert metrics["rows"] == record["rows_seen"] == record["distinct_rows_seen"] == 8
    assert metrics["tokens"] == record["tokens_seen"] > record["loss_tokens_seen"]
    assert record["epochs"] == 8 / 30 and record["device"] and record["versions"]["torch"]
    assert record["base_model"] == {"reference": "tiny", "resolved": None, "weights": "F32"}
    assert read(f"{paths.ADAPTER}/adapter_config.json")["revision"] is None


def test_refused_rows_are_in_the_record_and_on_screen(values, capsys):
    conversations = [dialogue(f"Question {n}?", "B" * 9 if n % 4 else "<|eot|>") for n in range(12)]
    write_mix(conversations)
    values["train"]["max_refused"] = 0.5
    values["train"]["budget"] = "1 epoch"
    values["train"]["batch_size"] = values["train"]["micro_batch"] = 1
    train.main(values)
    reason = "a message holds a control token of the chat template"
    record = written()
    assert record["refused"] == {reason: 3} and record["dropped"]["refused_by_template"] == 3
    assert len(record["refused_examples"][reason]) == 3
    assert record["position_limit"] == 2048 and record["thoughtless_turns"] == 0
    said = capsys.readouterr().out
    assert f"refused     3 rows: {reason}\n                the first is row " in said
    assert "truncated at 80 tokens (the model has 2,048 positions)" in said
    values["train"]["max_refused"] = 0.2
    with pytest.raises(ParamError, match=r"train\.max_refused: .* 3 of the 12 rows read \(25\.00%\)"):
        train.main(values)


def test_rows_longer_than_the_model_has_positions(values):
    values["train"]["max_length"] = 2049
    with pytest.raises(ParamError, match=r"train\.max_length: 2,049 tokens .* 2,048 positions that tiny has"):
        train.main(values)


def test_tool_calls_and_thoughts_are_trained_on(values, tmp_path):
    """The whole stage on a model whose template prints both, with an answer that is not trained on."""
    control = [*CHATML, "<|endoftext|>"]
    save_model(tmp_path / "tiny", control=control, template=published("qwen3"))
    called = {**CALL, "tool_calls": json.dumps(CALL["tool_calls"]), "reasoning": "I look it up."}
    rows = [
        [{**ASKED, "content": f"City {n}?"}, called, RESULT, {**ANSWER, "trained": False}] for n in range(8)
    ]
    write_mix(rows, tools=pa.array([json.dumps(TOOLS)] * 8))
    values["train"].update(max_length=2048, budget="2 steps")
    values["data"]["weights"] = "proportional"
    train.main(values)
    record = written()
    run = (
        "<think>\nI look it up.\n</think>\n\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Orléans"}}\n</tool_call><|im_end|>'
    )
    length = len(run.encode()) - sum(len(mark) - 1 for mark in control if mark in run)
    assert record["loss_tokens_seen"] == 8 * length and record["refused"] == {}


def test_a_mix_that_does_not_name_its_kinds_is_older(values):
    save_shards(paths.MIX, shards.read(paths.MIX).replace_schema_metadata(), bits=1)
    with pytest.raises(UserError, match=r"data/mix: it does not name .* dvc repro mix"):
        train.main(values)


def test_weights_decide_what_is_read_and_the_summary_says_so(values, capsys):
    """`few` has 6 rows, of which two are too long; `off` is left out, and `none` has no rows in this mix."""
    values["data"]["weights"] = {"few": 3, "many": 1, "off": 0, "none": 2}
    values["train"]["validation_rows"] = 3
    train.main(values)
    record = written()
    names = ["weight", "rows_seen", "distinct_rows_seen", "rows_in_mix", "rows_available", "epochs"]
    assert record["kinds"] == {
        kind: dict(zip(names, values, strict=True))
        for kind, values in {
            "few": (3, 6, 4, 6, 6, 1.0),
            "many": (1, 2, 2, 18, 20, 0.1111),
            "none": (2, 0, 0, 0, 3, 0.0),
            "off": (0, 0, 0, 6, 6, 0.0),
        }.items()
    }
    assert record["validation_kinds"] == {"few": 1, "many": 2}
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["few", "3", "6", "4", "6", "1"] in lines and ["many", "1", "2", "2", "18", "0.111"] in lines
    text = " ".join(word for line in lines for word in line)
    assert "A larger data.size brings in, at their weights, kinds without rows here: none." in text
    assert "Read more than once, and all its rows are in the mix: few." in text


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            {"many": 1, "of": 1, "recipes": 2, "words": 0, "off": 0},
            "data.weights: no source of data.base and data.extra has rows of the kinds of (is off meant?), "
            "recipes. They have: few, many, none, off. Delete the lines of kinds that no source has, or set "
            "data.weights to proportional. Give yours one: -S +data.weights.few=1.",
        ),
        (
            {"many": 1, "few": 1},
            "data.weights: the mix has rows of kinds without a weight: off (6 rows). Give",
        ),
        (
            {"many": 0, "few": 0, "off": 0},
            "data.weights: no row of the mix has a weight above 0. All weights are 0.",
        ),
        (
            {"many": 0, "few": 0, "off": 0, "none": 1},
            "data.weights: no row of the mix has a weight above 0. The mix has: few (6 rows), many (18 rows)",
        ),
        ({"many": -1}, "data.weights.many: -1 is not a number from 0 on."),
        ({"a.b": 1}, "data.weights.a.b: 'a.b' is not a name of letters, digits, _ and -."),
        ({"many": 1, "size": 1}, "data.weights.size: a key in here cannot be called size"),
        ("even", "data.weights: 'even' is not a mapping, nor proportional."),
    ],
)
def test_weights_that_do_not_fit(values, weights, said):
    values["data"]["weights"] = weights
    with pytest.raises(ParamError) as told:
        train.main(values)
    assert str(told.value).startswith(said)


def test_a_weight_of_0_may_be_of_a_kind_that_there_is_not(values):
    values["data"]["weights"] = {"many": 1, "few": 1, "off": 0, "words": 0}
    train.main(values)
    assert written()["kinds"].keys() == {"many", "few", "off"}


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (
            {"a": (4, 4, 9)},
            ["No kind was read more than once: a larger data.size brings other rows, not more."],
        ),
        (
            {"a": (4, 4, 9), "b": (8, 4, 9)},
            ["A larger data.size brings fresh rows of kinds read more than once: b."],
        ),
        (
            {"a": (4, 4, 9), "b": (0, 0, 9)},
            ["A larger data.size brings in, at their weights, kinds without rows here: b."],
        ),
        (
            {"a": (4, 4, 4), "b": (8, 4, 4)},
            ["The mix has all rows of these kinds: a larger data.size brings no more of them."],
        ),
        ({"a": (4, 4, 9), "b": (8, 4, 4)}, ["Read more than once, and all its rows are in the mix: b."]),
    ],
)
def test_what_a_larger_mix_would_bring(kinds, said):
    """Of each kind the rows read, those in the mix (all of them read), and those in the largest mix."""
    made = {
        name: KindRead(1, read, size, size, available, 0) for name, (read, size, available) in kinds.items()
    }
    assert summary(made | {"off": KindRead(0, 0, 0, 5, 99, 0)})[len(kinds) + 2 :] == said


def test_rows_are_tokenized_before_the_model_is_loaded(values, monkeypatch):
    """Tokenizing may fork processes, and a model's threads, or its GPU, are not for them."""
    happened = []
    real_labelled, real_load = tokenizing._labelled, ENGINES["trl"].load

    def labelled(*arguments):
        happened.append("tokenized")
        return real_labelled(*arguments)

    def load(*arguments):
        happened.append("loaded")
        return real_load(*arguments)

    monkeypatch.setattr(tokenizing, "_labelled", labelled)
    monkeypatch.setattr(ENGINES["trl"], "load", load)
    train.main(values)
    assert happened == ["tokenized"] * (len(happened) - 1) + ["loaded"]
    assert list(written()["seconds"]) == ["load", "tokenize", "train", "save", "validation"]


@pytest.mark.parametrize("wanted", [6, 8])
def test_fewer_validation_rows_than_asked_for_are_told(values, wanted, capsys):
    values["train"]["validation_rows"] = wanted
    train.main(values)
    assert written()["validation_rows"] == 6
    said = "on 6 rows, not the 8 of train.validation_rows: 10 are held out, and of these left out: 4 too_long"
    assert (said in capsys.readouterr().out) == (wanted == 8)


def test_fewer_held_out_rows_of_the_kinds_that_are_read(values, capsys):
    values["data"]["weights"] = {"few": 1, "many": 0, "off": 0}
    train.main(values)
    assert written()["validation_kinds"] == {"few": 1}
    assert "on 1 rows, not the 4 of train.validation_rows: 2 of the kinds that are read are held out" in (
        capsys.readouterr().out
    )


def test_none_held_out_of_the_kinds_that_are_read(values, capsys):
    """Rows of extra are held out only with their items; what is read then is validated by the others."""
    held_out = pq.read_table(paths.VALIDATION)
    pq.write_table(held_out.filter(pc.not_equal(held_out["kind"], "few")), paths.VALIDATION)
    values["data"]["weights"] = {"few": 1, "many": 0, "off": 0}
    train.main(values)
    assert written()["validation_kinds"].keys() <= {"many", "off"}
    assert "on rows of other kinds: none is held out of those that data.weights reads" in (
        capsys.readouterr().out
    )


def test_nothing_held_out(values):
    pq.write_table(pq.read_table(paths.VALIDATION).slice(0, 0), paths.VALIDATION)
    with pytest.raises(ParamError, match=r"data\.holdout\.validation .* data\.holdout\.validation_per_task"):
        train.main(values)


def test_how_far_a_stopped_training_has_come():
    said = [train.how_far(Interrupted(40, 180, kept)) for kept in (40, 20, None)]
    begin = ", at step 40 of 180; the same command again "
    assert said == [
        begin + "goes on from there",
        begin + "goes on from step 20",
        begin + "begins anew",
    ]


def test_seconds_between_checkpoints_that_are_no_number(values, monkeypatch):
    for value in ("often", "nan", "-1", "inf"):
        monkeypatch.setenv("SFT_CHECKPOINT_SECONDS", value)
        with pytest.raises(UserError, match=f"SFT_CHECKPOINT_SECONDS: '{value}' is no number of seconds"):
            train.checkpoint_seconds()
    monkeypatch.setenv("SFT_CHECKPOINT_SECONDS", "often")
    with pytest.raises(UserError, match="SFT_CHECKPOINT_SECONDS: 'often' is no number of seconds"):
        train.main(values)
    monkeypatch.setenv("SFT_CHECKPOINT_SECONDS", "0.5")
    assert train.checkpoint_seconds() == 0.5


def test_what_it_reports_to_changes_nothing_and_is_told(values, monkeypatch, capsys):
    """The same bytes come out; the run has the experiment's name, and lies where DVC has its repository."""
    train.main(values)
    unreported = folder_bytes(Path(paths.ADAPTER))
    assert "reporting" not in written()["seconds"]
    root = Path("repository")
    (root / ".dvc").mkdir(parents=True)
    for name, value in {
        "SFT_REPORT_TO": " tensorboard,tensorboard,",
        "DVC_ROOT": str(root.resolve()),
        "DVC_EXP_NAME": "exp-a",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    capsys.readouterr()
    train.main(values)
    assert folder_bytes(Path(paths.ADAPTER)) == unreported
    assert written()["seconds"]["reporting"] > 0  # to begin and to end it: no time of training's
    (events,) = root.resolve().glob(".dvc/tmp/trackers/tensorboard/exp-a/events.*")
    assert f"report      tensorboard: {events.parent};" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "tensorboard, comet",
            "SFT_REPORT_TO: 'comet' is no tracker. There are tensorboard",
        ),
        ("dvclive", "SFT_REPORT_TO: dvclive reports to DVC, and .* is in no repository of DVC's."),
    ],
)
def test_what_cannot_be_reported_to_is_said_before_any_work(values, monkeypatch, text, said):
    monkeypatch.setenv("SFT_REPORT_TO", text)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(train, "read_mix", None)
    with pytest.raises(UserError, match=said):
        train.main(values)


def test_params_are_told_without_secrets(values, monkeypatch):
    monkeypatch.setenv("SFT_REPORT_TO", "tensorboard")
    values["model"]["reference"] = "https://me:pass-word@example.org/model"
    told = reporting.report_to(values).params
    assert told["model.reference"] == "https://****@example.org/model"
    assert told["data.weights"] == "proportional" and told["train.lora.r"] == 4
    assert set(told) == set(leaves(values))
