"""The evaluation tasks, as params define them: one record a task, in their order there."""

from contextlib import suppress
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, WithJsonSchema, model_validator

from sft.core.errors import ParamError
from sft.core.param_errors import fault, wanted
from sft.core.params import Count, Params, Text, parse_value
from sft.tasks.metric_names import COMMON, METRICS

# What stands for all tasks beside their names, in metrics and in comparisons.
AVERAGE = "average"


def _share_or_count(value: Any) -> float | int:
    """Tell a share from a count: 1 is one item, 1.0 all of them."""
    number = value
    if isinstance(value, str):
        with suppress(ValueError):
            number = float(value) if "." in value else int(value)
    if type(number) in (int, float) and (number == 0 or (isinstance(number, float) and 0 < number <= 1)):
        return float(number)
    try:
        return parse_value(value, Count, "")
    except ParamError:
        raise wanted("a share from 0 to 1 (0.2; 1.0 is all), nor a number of items (60)") from None


# What is held out of a source: a share (a float from 0 to 1) or a number of items (an int).
Holdout = Annotated[
    float | int,
    BeforeValidator(_share_or_count),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\d+(_\d+)*(\.\d+)?[kKmM]?$"},
            ]
        }
    ),
]


class TaskParams(Params):
    """`tasks.NAME`: the source of the held-out items, the share or the number of them, an answer's limit in
    tokens, and the metrics that this task has beyond the common ones.
    """

    model_config = ConfigDict(frozen=True)

    source: Text
    holdout: Holdout
    max_new_tokens: Count
    metrics: list[Text]

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        """Refuse a key that is no field of a task: no other stage reads it."""
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                raise fault(f"a task has no such param, but {', '.join(cls.model_fields)}.", key)
        return values


class Task(TaskParams):
    """An evaluation task: its name and params; `metrics` are all that it has, the common ones first."""

    name: str


def tasks_of(params: dict[str, TaskParams]) -> list[Task]:
    """Return the tasks that params define, by their names.

    Raises ParamError where there is none, a name cannot be a task's, or a metric is none of a task's own.
    """
    if not params:
        raise ParamError("tasks: there is none. Define one at least.")
    return [_task(name, values) for name, values in params.items()]


def _task(name: str, params: TaskParams) -> Task:
    if name == AVERAGE:
        raise ParamError(f"tasks.{name}: the metrics files call the tasks' average so. Take another name.")
    own = [metric for metric in METRICS if metric not in COMMON]
    for metric in params.metrics:
        if metric not in own:
            kind = "one that every task has" if metric in COMMON else "no metric"
            raise ParamError(
                f"tasks.{name}.metrics: {metric!r} is {kind}. A task may list: {', '.join(own)}."
            )
    metrics = [*COMMON, *(metric for metric in own if metric in params.metrics)]
    return Task(**{**dict(params), "metrics": metrics}, name=name)
