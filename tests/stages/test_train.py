"""The train stage in this process, on rows and a model made here."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sft.core.errors import ParamError
from sft.training import tokenizing
from sft.training.engines import ENGINES
from stages import paths, train
from tests.tiny import dialogue, save_model, table
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
        names = json.dumps(["few", "many", "none", "off"])
        pq.write_table(made.replace_schema_metadata({"kinds": names}), path)
    for folder in ("models", "metrics", "plots", "provenance"):
        (tmp_path / folder).mkdir()
    settings = json.loads(json.dumps(dict(PARAMS), default=dict))
    settings |= {"budget": "2 steps", "max_length": 80, "too_long": "drop", "validation_rows": 4}
    return {
        "model": {"reference": "tiny", "dtype": "float32", "load_in_4bit": False},
        "data": {"weights": "proportional"},
        "train": settings,
    }


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


def test_weights_decide_what_is_read_and_the_summary_says_so(values, capsys):
    """`few` has 6 rows, of which two are too long; `off` is left out, and `none` has no rows in this mix."""
    values["data"]["weights"] = {"few": 3, "many": 1, "off": 0, "none": 2}
    values["train"]["validation_rows"] = 3
    train.main(values)
    record = written()
    assert record["kinds"] == {
        "few": {"weight": 3, "rows_seen": 6, "distinct_rows_seen": 4, "rows_in_mix": 6, "epochs": 1.0},
        "many": {"weight": 1, "rows_seen": 2, "distinct_rows_seen": 2, "rows_in_mix": 18, "epochs": 0.1111},
        "none": {"weight": 2, "rows_seen": 0, "distinct_rows_seen": 0, "rows_in_mix": 0, "epochs": 0.0},
        "off": {"weight": 0, "rows_seen": 0, "distinct_rows_seen": 0, "rows_in_mix": 6, "epochs": 0.0},
    }
    assert record["validation_kinds"] == {"few": 1, "many": 2}
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["few", "3", "6", "4", "6", "1"] in lines and ["many", "1", "2", "2", "18", "0.111"] in lines
    text = " ".join(word for line in lines for word in line)
    assert "fresh rows only of kinds read more than once (few), if their sources have more." in text


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            {"many": 1, "few": 1, "of": 0, "off": 0},
            "data.weights.of: no kind of rows has this name. Is off meant?",
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
        ({"many": 1, "size": 1}, "data.weights.size: a key in here cannot be called size"),
        ("even", "data.weights: 'even' is not a mapping, nor proportional."),
        (
            {"many": 0, "few": 1, "off": 0},
            "train.validation_rows: 4 are asked for, but 2 rows of the kinds that data.weights reads are",
        ),
    ],
)
def test_weights_that_do_not_fit(values, weights, said):
    values["data"]["weights"] = weights
    with pytest.raises(ParamError) as told:
        train.main(values)
    assert str(told.value).startswith(said)


def test_without_the_names_of_the_sources_the_kinds_are_those_that_there_are(values):
    pq.write_table(pq.read_table(paths.MIX).replace_schema_metadata(None), paths.MIX)
    values["data"]["weights"] = {"few": 1, "many": 1, "off": 1, "none": 1}
    with pytest.raises(ParamError, match=r"data\.weights\.none: no kind .* have: few, many, off\.$"):
        train.main(values)


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
    said = "on 6 rows, not the 8 of train.validation_rows: the others are left out (4 too_long)"
    assert (said in capsys.readouterr().out) == (wanted == 8)
