"""How large a rehearsal is: the study's preset whole, or what two CPU cores run in minutes."""

from dataclasses import dataclass
from typing import Any

from benchmarks.rehearsal import model


@dataclass(frozen=True)
class Scale:
    """What differs between the two.

    `config` are changed values of the model's config, `base` the rows of FineTome, `others` those that
    The-Tome has beyond them, `params` what is changed in params.yaml after the preset, `size` the larger mix
    that is tried after the preset's, `disk` the bytes that it takes, `gpu` whether it needs one.
    """

    config: dict[str, Any]
    base: int
    others: int
    params: dict[str, Any]
    size: str
    disk: int
    gpu: bool


# 6.4 GB of weights and 1 GB of rows at the hub and in the client's cache; the rows standardized and mixed.
# What an export takes, scripts.export asks for by itself.
FULL = Scale({}, 100_000, 230_000, {}, "300k", 22_000_000_000, gpu=True)
SMALL = Scale(
    model.SMALL,
    1_000,
    2_300,
    {
        "model.dtype": "float32",
        "model.load_in_4bit": False,
        "data.size": 950,
        "train.engine": "trl",
        "train.optimizer": "adamw_torch",
        "train.budget": "6 steps",
        "train.max_length": 512,
        "train.validation_rows": 8,
        "train.validation_every": 3,
        "evaluate.examples": 3,
        "evaluate.likelihood_examples": 4,
        "evaluate.runs": 2,
        **{f"tasks.{task}.max_new_tokens": 16 for task in ("recipe", "definition", "dialogue", "question")},
        "plot.length_sample": 200,
    },
    "3k",
    2_000_000_000,
    gpu=False,
)
