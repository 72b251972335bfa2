"""What a training leaves to tell: losses by step, seconds, and how the work was cut."""

from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict


class StepLog(TypedDict):
    """One optimizer step."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float


class ValidationLog(TypedDict):
    """The validation loss after so many steps."""

    step: int
    loss: float


class MicroBatchLog(TypedDict):
    """The largest micro-batch, in rows or in tokens, and what it took.

    `out_of_memory` counts how often memory ran out. Of the passes that are captured as CUDA graphs,
    `captured_tokens` is how many tokens they have at most, `graphs` how many graphs there are at the end.
    """

    rows: NotRequired[int]
    tokens: NotRequired[int]
    gradient_checkpointing: bool
    out_of_memory: int
    captured_tokens: int
    graphs: int


@dataclass
class Logs:
    """One entry a step, one a validation, and how the work was cut.

    `step_seconds` has one entry a step, without validation and saving. Where it went on from checkpoints,
    `resumed_at_steps` are their steps, and `seconds_before` what it took in the runs before this one.
    `reporting_seconds` is how long this run waited for experiment trackers to begin and to end.
    """

    steps: list[StepLog]
    validation: list[ValidationLog]
    validation_seconds: float
    step_seconds: list[float]
    micro_batch: MicroBatchLog
    seconds_before: float
    resumed_at_steps: list[int]
    reporting_seconds: float = 0.0

    @classmethod
    def of(
        cls,
        history: list[dict[str, Any]],
        step_seconds: list[float],
        micro_batch: MicroBatchLog,
        seconds_before: float,
        resumed_at_steps: list[int],
        reporting_seconds: float = 0.0,
    ) -> "Logs":
        """Pick them from the trainer's log history."""
        return cls(
            steps(history),
            validations(history),
            sum(entry["eval_runtime"] for entry in history if "eval_loss" in entry),
            step_seconds,
            micro_batch,
            seconds_before,
            resumed_at_steps,
            reporting_seconds,
        )


def steps(history: list[dict[str, Any]]) -> list[StepLog]:
    """Pick the optimizer steps from the trainer's log history."""
    return [
        StepLog(
            step=entry["step"],
            loss=entry["loss"],
            learning_rate=entry["learning_rate"],
            grad_norm=entry["grad_norm"],
        )
        for entry in history
        if "loss" in entry
    ]


def validations(history: list[dict[str, Any]]) -> list[ValidationLog]:
    """Pick the validation losses from the trainer's log history."""
    return [
        ValidationLog(step=entry["step"], loss=entry["eval_loss"])
        for entry in history
        if "eval_loss" in entry
    ]
