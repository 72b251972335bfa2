"""The train stage in this process, on rows and a model made here."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sft.training import tokenized_dataset
from sft.training.engines import ENGINES
from stages import paths, train
from tests.tiny import dialogue, save_model, table
from tests.training.test_train import PARAMS


@pytest.fixture
def values(tmp_path, monkeypatch):
    """Return params of a training of two steps; the stage runs in a folder that has what it reads."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "tiny")
    for path, count in ((paths.MIX, 30), (paths.VALIDATION, 6)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        rows = [dialogue(f"Question {n} for {path}?", "B" * (100 if n % 3 == 0 else 9)) for n in range(count)]
        pq.write_table(table(rows), path)
    for folder in ("models", "metrics", "plots"):
        (tmp_path / folder).mkdir()
    settings = json.loads(json.dumps(dict(PARAMS), default=dict))
    settings |= {"budget": "2 steps", "max_length": 80, "too_long": "drop", "validation_rows": 4}
    return {"model": {"reference": "tiny", "dtype": "float32", "load_in_4bit": False}, "train": settings}


def written():
    return json.loads(Path(paths.METRICS_TRAIN).read_text(encoding="utf-8"))


def test_rows_are_tokenized_before_the_model_is_loaded(values, monkeypatch):
    """Tokenizing may fork processes, and a model's threads, or its GPU, are not for them."""
    happened = []
    real_labelled, real_load = tokenized_dataset._labelled, ENGINES["trl"].load

    def labelled(*arguments):
        happened.append("tokenized")
        return real_labelled(*arguments)

    def load(*arguments):
        happened.append("loaded")
        return real_load(*arguments)

    monkeypatch.setattr(tokenized_dataset, "_labelled", labelled)
    monkeypatch.setattr(ENGINES["trl"], "load", load)
    train.main(values)
    assert happened == ["tokenized"] * (len(happened) - 1) + ["loaded"]
    assert list(written()["seconds"]) == ["load", "tokenize", "train", "save", "validation"]


@pytest.mark.parametrize("wanted", [4, 6])
def test_fewer_validation_rows_than_asked_for_are_told(values, wanted, capsys):
    values["train"]["validation_rows"] = wanted
    train.main(values)
    assert written()["validation_rows"] == 4
    said = "on 4 rows, not the 6 of train.validation_rows: the others are left out (2 too_long)"
    assert (said in capsys.readouterr().out) == (wanted == 6)
