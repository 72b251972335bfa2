"""The parts of the stages' records (provenance/*.json, metrics/mix.json) that a model card is made from."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sft.core.errors import UserError
from sft.core.files import read_json


class SourceRecord(BaseModel):
    """A source: the rows understood, and the commit or digest that was read."""

    rows: int
    resolved: str


class StandardizeRecord(BaseModel):
    """provenance/standardize.json."""

    sources: dict[str, SourceRecord]


class MixRecord(BaseModel):
    """provenance/mix.json: rows of the mix by the `source` that they have."""

    sources: dict[str, int]


class Contamination(BaseModel):
    """Rows of the mix that ask an evaluation example's question, or hold more than half of an example."""

    question_only: int
    over_half: int


class MixMetrics(BaseModel):
    """metrics/mix.json."""

    contamination: Contamination


class KindRecord(BaseModel):
    """A kind of rows: in the mix, and read in training (a row read twice counts twice)."""

    rows_in_mix: int
    rows_seen: int
    distinct_rows_seen: int


class BaseRecord(BaseModel):
    """The base model: its commit or digest (None of a folder), and how its weights are stored."""

    resolved: str | None
    weights: str


class TrainRecord(BaseModel):
    """provenance/train.json."""

    rows_seen: int
    distinct_rows_seen: int
    tokens_seen: int
    rows_in_mix: int
    kinds: dict[str, KindRecord]
    steps: int
    truncated: int
    trainable_parameters: int
    base_model: BaseRecord


class TaskRecord(BaseModel):
    """A task: the examples answered, those whose likelihood was taken, the share of answers that ended."""

    examples: int
    likelihood_examples: int
    finished: float


class EvaluateRecord(BaseModel):
    """provenance/evaluate.json."""

    tasks: dict[str, TaskRecord]


R = TypeVar("R", bound=BaseModel)


def read(path: Path | str, kind: type[R], stage: str) -> R:
    """Read a record that `stage` has written; raise UserError where it is damaged, or of older code.

    Raises MissingFile where it is not there.
    """
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(
            f"{path}: damaged, or older than this code: {where}: {first['msg']}. Run the stage that writes "
            f"it: dvc repro {stage}"
        ) from error
