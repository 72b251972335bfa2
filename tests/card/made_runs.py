"""Runs as the pipeline records them, small and invented."""

from typing import Any

from sft.card import records
from sft.card.params import AnswersParams, BaseParams, SourcesParams, TrainingParams
from sft.card.run import Run
from sft.statistics.gains import Gain
from sft.statistics.significance import Outcome
from sft.tasks.task import TaskParams, tasks_of

COMMIT, DIGEST = "0123456789abcdef" * 2 + "01234567", "sha256:" + "fedcba98" * 8
HUB = "hf://datasets/org/chats@main"
CHITCHAT = "pypi://chitchat-dataset==0.9.0"
TRAINING = {
    "engine": "trl",
    "seed": 7,
    "budget": "60 steps",
    "batch_size": 8,
    "max_length": 512,
    "too_long": "truncate",
    "loss_on": "assistant",
    "learning_rate": "2e-4",
    "lr_scheduler": "linear",
    "warmup_steps": 5,
    "weight_decay": 0.01,
    "optimizer": "adamw_torch",
    "lora": {"r": 16, "alpha": 32, "dropout": 0, "target_modules": ["q_proj", "v_proj"]},
}
TRAIN = {
    "rows_seen": 480,
    "distinct_rows_seen": 480,
    "tokens_seen": 12345,
    "rows_in_mix": 1000,
    "kinds": {"chats": {"rows_in_mix": 1000, "rows_seen": 480, "distinct_rows_seen": 480}},
    "steps": 60,
    "truncated": 0,
    "trainable_parameters": 4096,
    "base_model": {"resolved": COMMIT, "weights": "BF16"},
}
GAINS = [
    Gain("average", "rouge1", 0.2, 0.3, 0.1, 0.05, 0.15, 0.001, Outcome.BETTER, ""),
    Gain("talk", "rouge1", 0.2, 0.3, 0.1, -0.05, 0.25, 0.2, Outcome.NO_DIFFERENCE, "minimum detectable: 0.2"),
    Gain(
        "talk", "bits_per_byte", 1.0, 0.9, -0.1, None, None, None, Outcome.NOT_JUDGED, "talk has 3 examples"
    ),
]


def run(
    reference: str = f"hf://org/base@{COMMIT}",
    license: str = "mit",
    base: tuple[str, ...] = (HUB,),
    extra: tuple[str, ...] = (),
    metrics: tuple[str, ...] = (),
    load_in_4bit: bool = False,
    sources: dict[str, int] | None = None,
    contamination: tuple[int, int] = (0, 0),
    finished: float = 1.0,
    **train: Any,
) -> Run:
    """Return a run of one task, `talk`, whose source is the first of base; `train` is of its record."""
    task = TaskParams(source=base[0], holdout=0.1, max_new_tokens=64, metrics=list(metrics))
    read = {uri: {"rows": 1200, "resolved": COMMIT if uri == HUB else DIGEST} for uri in (*base, *extra)}
    question_only, over_half = contamination
    return Run(
        license=license,
        model=BaseParams(reference=reference, dtype="bfloat16", load_in_4bit=load_in_4bit),
        data=SourcesParams(base=list(base), extra=list(extra)),
        tasks=tasks_of({"talk": task}),
        training=TrainingParams.model_validate(TRAINING),
        answers=AnswersParams(runs=3, temperature=0.7),
        standardize=records.StandardizeRecord.model_validate({"sources": read}),
        mix=records.MixRecord(sources=sources or {"org/chats": 1000}),
        mix_metrics=records.MixMetrics.model_validate(
            {"contamination": {"question_only": question_only, "over_half": over_half}}
        ),
        train=records.TrainRecord.model_validate(TRAIN | train),
        evaluate=records.EvaluateRecord.model_validate(
            {"tasks": {"talk": {"examples": 20, "likelihood_examples": 40, "finished": finished}}}
        ),
        gains=GAINS,
    )
