"""The table of engines: what each offers, that training goes by it alone, and that nothing else names one."""

import ast
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest

from sft.modeling.packing import pack
from sft.training import engines
from sft.training.engines import ENGINES
from sft.training.train import train
from sft.training.train_params import TrainParams
from tests.imports import ROOT
from tests.tiny import save_model
from tests.training.test_train import params, random_rows, trainable


def test_the_param_names_the_engines_of_the_table():
    assert get_args(get_type_hints(TrainParams)["engine"]) == tuple(ENGINES)


def test_no_code_compares_an_engines_name():
    for folder in ("sft", "stages", "app", "benchmarks", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Compare):
                    values = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                    assert not values & set(ENGINES), f"{path}:{node.lineno}: put it into the engine's module"


def test_an_engine_is_prepared_before_it_is_returned(monkeypatch):
    prepared = []
    mine = SimpleNamespace(prepare=lambda: prepared.append(True))
    monkeypatch.setitem(ENGINES, "mine", mine)
    assert engines.prepare("mine") is mine and prepared == [True]


@pytest.mark.parametrize("can_capture", [True, False])
def test_training_asks_the_engine(tmp_path, monkeypatch, can_capture):
    """For its checkpointing, its decoder's arguments, and whether its passes can be captured."""
    trl, checkpointed, lengths = ENGINES["trl"], [], []

    def checkpointing(model, on):
        checkpointed.append(on)
        trl.checkpointing(model, on)

    def inputs(packed):
        lengths.append(packed.lengths)
        return trl.inputs(packed)

    mine = SimpleNamespace(checkpointing=checkpointing, inputs=inputs, can_capture_graphs=can_capture)
    model, tokenizer = trainable(save_model(tmp_path, spread=0.3))
    monkeypatch.setitem(ENGINES, "trl", mine)
    monkeypatch.setattr("sft.training.cuda_graphs.capturable_tokens", lambda *_: 1_000)
    changed = params(steps=2, micro_batch="auto", gradient_checkpointing=True)
    logs = train(model, tokenizer, random_rows(8), random_rows(2, 1), changed, "float32")
    assert checkpointed == [True] and len(lengths) >= 4
    assert logs.micro_batch["captured_tokens"] == (1_000 if can_capture else 0)


def test_only_unsloths_decoder_gets_unsloths_arguments():
    packed = pack([{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}, {"input_ids": [8], "labels": [8]}], "cpu")
    theirs = ENGINES["unsloth"].inputs(packed)
    assert theirs.pop("packed_seq_lengths").tolist() == [3, 1]
    assert theirs.keys() == ENGINES["trl"].inputs(packed).keys() == packed.inputs().keys()
