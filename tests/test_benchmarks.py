"""The benchmarks measure what they say: their material, and params that the stages take."""

import numpy as np

from benchmarks.material import SMOLLM2, conversations, llama_tokenizer, turns, workspace
from benchmarks.train_speed import stage_params
from sft.core.params import section
from sft.modeling.chat_template import encode, end_of_turn
from sft.modeling.loading import ModelParams, load_tokenizer, resolve
from sft.training.mixture import MixtureParams
from sft.training.train_params import TrainParams
from stages.train import read_mix


def test_conversations_are_as_long_as_said():
    tokenizer = load_tokenizer(resolve(SMOLLM2))
    made = conversations(tokenizer, 300)
    lengths = np.array([len(encode(tokenizer, messages).input_ids) for messages in made])
    assert abs(lengths.mean() - 682) < 7
    assert lengths.max() < 2060 and np.percentile(lengths, 10) < 300
    assert conversations(tokenizer, 300) == made != conversations(tokenizer, 300, seed=1)


def test_the_llama_tokenizer():
    tokenizer = llama_tokenizer()
    assert len(tokenizer) == 128256
    ids = encode(tokenizer, turns("a", "b")).input_ids
    assert ids[0] == 128000 and ids.count(128009) == 2
    assert end_of_turn(tokenizer) == 128009


def test_the_stages_take_the_params():
    params = stage_params(SMOLLM2, "unsloth", True, 8, True, 40)
    assert section(params, "train", TrainParams).micro_batch == "auto"
    assert section(params, "model", ModelParams).load_in_4bit
    assert section(params, "data", MixtureParams).weights == "proportional"


def test_the_train_stage_reads_their_mix(tmp_path, monkeypatch):
    monkeypatch.chdir(workspace(tmp_path / "workspace", SMOLLM2))
    assert read_mix(MixtureParams(weights="proportional")).in_mix == {"benchmark": 2000}
