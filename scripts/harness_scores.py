"""What lm-eval found, in few numbers and by example, and the files that keep it.

None of them is a stage's, so a bare `dvc repro` neither makes nor needs them. DVC knows the metrics by a
dvc.yaml beside them, written with them: where the benchmarks did not run there is neither.
"""

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sft.core.errors import UserError
from sft.statistics.scores import Scores, ScoresOf

METRICS = "metrics/harness.json"
METRICS_PIPELINE = "metrics/dvc.yaml"
PROVENANCE = "provenance/harness.json"
SCORES = {"base": "scores/harness_base.csv", "adapter": "scores/harness_adapter.csv"}
# In Git, as what the stages write to the same folders.
KEPT = (METRICS, METRICS_PIPELINE, PROVENANCE, *SCORES.values())
SAMPLES = "data/harness"  # texts, and lm-eval's cache of answers: not in Git

DIGITS = 6
_FIRST = ("task", "example")


@dataclass
class Found:
    """One model's results: by task and metric the score and its standard error (None: lm-eval has none).

    `by_example` has the metrics that are the mean of the examples' scores; of these, more is better unless
    they are in `lower`.
    """

    summary: dict[str, dict[str, tuple[float, float | None]]]
    by_example: Scores
    lower: set[tuple[str, str]] = field(default_factory=set)


def found(results: Mapping[str, Any]) -> Found:
    """Take lm-eval's results apart.

    The tasks of a group that has a score of its own count as one task, of the group's name; where none of its
    scores is the mean over all examples, they are there besides. A metric is named
    as lm-eval does, without the filter `none`. Raises UserError for a score that is no finite number.
    """
    summary = {}
    by_example: Scores = {}
    lower: set[tuple[str, str]] = set()
    for name, members in _names(results).items():
        summary[name] = _summary(name, results["results"][name])
        _check_answers(name, members, results["samples"])
        scores = _means(name, members, results["samples"], summary[name])
        if not scores and members != [name]:
            # The group's score is the mean of its tasks' scores, not of the examples'.
            for task in members:
                summary[task] = _summary(task, results["results"][task])
                scores |= _means(task, [task], results["samples"], summary[task])
        by_example |= scores
        sense = results["higher_is_better"][members[0]]
        lower |= {key for key in scores if not sense.get(key[1].partition(",")[0], True)}
    return Found(summary, by_example, lower)


def _means(
    name: str, members: Sequence[str], samples: Mapping[str, Any], summary: Mapping[str, tuple[float, Any]]
) -> Scores:
    """Return the scores by example of the metrics whose mean they have."""
    return {
        (name, metric): scores
        for metric, scores in _by_example(name, members, samples).items()
        if metric in summary and math.isclose(scores.values.mean(), summary[metric][0], abs_tol=1e-9)
    }


def as_metrics(models: Mapping[str, Found]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the metrics file: by task and metric each model's score and its standard error."""
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for model, of_model in models.items():
        for task, scores in of_model.summary.items():
            for metric, (score, error) in scores.items():
                cell = metrics.setdefault(task, {}).setdefault(metric, {})
                cell[model] = round(score, DIGITS)
                if error is not None:
                    cell[f"{model}_stderr"] = round(error, DIGITS)
    return metrics


def as_csv(scores: Scores) -> str:
    """Write scores by example, without texts; a cell is empty where a task has not the metric."""
    metrics = list(dict.fromkeys(metric for _, metric in scores))
    file = io.StringIO()
    writer = csv.DictWriter(file, [*_FIRST, *metrics], restval="", lineterminator="\n")
    writer.writeheader()
    for task in dict.fromkeys(task for task, _ in scores):
        own = {metric: scores[task, metric] for metric in metrics if (task, metric) in scores}
        examples = dict.fromkeys(example for of in own.values() for example in of.examples)
        cells = {
            metric: dict(zip(of.examples, of.values[0].tolist(), strict=True)) for metric, of in own.items()
        }
        for example in examples:
            row = {metric: _cell(of[example]) for metric, of in cells.items() if example in of}
            writer.writerow({"task": task, "example": example, **row})
    return file.getvalue()


def parse(text: str, name: str) -> Scores:
    """Return the scores by task and metric of a file called `name`; raise UserError for a damaged one.

    There are none where no metric is a mean over examples: a perplexity is none.
    """
    reader = csv.DictReader(io.StringIO(text), strict=True)
    cells: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    try:
        for row in reader:
            for metric in (reader.fieldnames or [])[len(_FIRST) :]:
                if row[metric]:
                    of_examples = cells[row["task"], metric]
                    if row["example"] in of_examples:
                        raise ValueError(f"{row['example']} is there twice")
                    of_examples[row["example"]] = float(row[metric])
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise _damaged(name, f"line {reader.line_num}: {error}") from error
    if tuple(reader.fieldnames or ())[: len(_FIRST)] != _FIRST:
        raise _damaged(name, "it holds no scores by task and example")
    scores = {key: ScoresOf(list(of), np.array([list(of.values())])) for key, of in cells.items()}
    for (task, metric), of in scores.items():
        if not np.isfinite(of.values).all():
            raise _damaged(name, f"a score of {task}, {metric} is no finite number")
    return scores


def parse_record(text: str, name: str) -> dict[str, Any]:
    """Return the provenance that a file called `name` holds; raise UserError for a damaged one."""
    try:
        record = json.loads(text)
        for key in ("adapter", "lower_is_better", "lm_eval"):
            record[key]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(name, str(error)) from error
    return record


def lower_is_better(record: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the tasks and metrics of which less is better, by the provenance."""
    return {(task, metric) for task, of in record["lower_is_better"].items() for metric in of}


def _names(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the tasks that each reported name stands for: itself, or those of a group with a score."""
    parents = {child: name for name, of in results["group_subtasks"].items() for child in of}
    names: dict[str, list[str]] = {}
    for task in results["samples"]:
        reported, at = task, task
        while at in parents:
            at = parents[at]
            if at in results.get("groups", {}):
                reported = at
        names.setdefault(reported, []).append(task)
    return names


def _summary(task: str, scores: Mapping[str, Any]) -> dict[str, tuple[float, float | None]]:
    summary = {}
    for key, score in scores.items():
        metric, comma, of = key.partition(",")
        if not comma or metric.endswith("_stderr") or isinstance(score, str):
            continue
        error = scores.get(f"{metric}_stderr,{of}")
        if not math.isfinite(score):
            raise _not_finite(task, metric, score)
        named = error if isinstance(error, float | int) and math.isfinite(error) else None
        summary[_metric(metric, of)] = (float(score), named)
    return summary


def _check_answers(name: str, members: Sequence[str], samples: Mapping[str, Any]) -> None:
    """Raise UserError for a likelihood that is no finite number: it leads to a choice like any other."""
    for task in members:
        for sample in samples[task]:
            for answer in sample["filtered_resps"]:
                for value in answer if isinstance(answer, tuple | list) else (answer,):
                    if isinstance(value, float) and not math.isfinite(value):
                        raise _not_finite(name, f"likelihood of example {sample['doc_id']}", value)


def _not_finite(task: str, what: str, value: float) -> UserError:
    return UserError(
        f"{task}: its {what} is {value}, no finite number. See whether the weights of the model or the "
        "adapter are damaged, and whether model.dtype overflows."
    )


def _by_example(name: str, members: Sequence[str], samples: Mapping[str, Any]) -> dict[str, ScoresOf]:
    """Return the examples' scores by metric, of the metrics that have one number an example.

    An example's name holds its place and how its content's hash begins: other data has other examples.
    """
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for task in members:
        for sample in samples[task]:
            example = f"{sample['doc_id']}-{sample['doc_hash'][:12]}"
            for metric in sample["metrics"]:
                score = sample[metric]
                if isinstance(score, bool | int | float | np.number):
                    key = example if task == name else f"{task}/{example}"
                    values[_metric(metric, sample["filter"])][key] = float(score)
    return {metric: ScoresOf(list(of), np.array([list(of.values())])) for metric, of in values.items()}


def _metric(metric: str, of: str) -> str:
    return metric if of == "none" else f"{metric},{of}"


def _cell(value: float) -> float | int:
    return int(value) if value == int(value) else round(value, DIGITS)


def _damaged(name: str, what: str) -> UserError:
    return UserError(f"{name}: damaged: {what}. Get it from Git again, or make it anew: make harness")
