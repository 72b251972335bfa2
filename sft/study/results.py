"""Results of trainings: which are replicates of one configuration, their scores, and what they lack."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypedDict

import numpy as np

from sft.core.params import Count, Number, leaves, parse_value
from sft.statistics.outliers import far_out
from sft.statistics.scores import Scores, aligned
from sft.statistics.significance import TESTED_ROUGE
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS
from sft.tasks.task import AVERAGE

# What a training has read, by the names in its provenance.
Amount = Literal["rows_seen", "distinct_rows_seen", "epochs", "tokens_seen"]
AMOUNTS: tuple[Amount, ...] = ("rows_seen", "distinct_rows_seen", "epochs", "tokens_seen")
# A param of its own, though it is a mapping: of how often training reads rows of each kind.
WEIGHTS = "data.weights"
# In a configuration's `apart`: what tells its data from those of results with the same params.
DATA = "data"


class Provenance(TypedDict):
    """What is read of any stage's provenance: the device that it ran on, and the packages' versions."""

    device: str
    versions: dict[str, str]


class TrainProvenance(Provenance):
    """What is read of the training's."""

    rows_seen: int
    distinct_rows_seen: int
    tokens_seen: int
    epochs: float
    rows_in_mix: int


@dataclass(frozen=True)
class Inputs:
    """What a result was made from beside its params: hashes by file of standardized data, and of code."""

    data: dict[str, str]
    code: dict[str, str]


@dataclass(eq=False)
class Result:
    """One evaluated adapter: its name, params, scores, and what describes its training and evaluation.

    `base` are the base model's scores on the same examples. Without `inputs` nobody can tell whether it was
    made from the same data, by the same code, as another.
    """

    name: str
    params: dict[str, Any]
    scores: Scores
    trained: TrainProvenance
    evaluated: Provenance
    base: Scores = field(default_factory=dict)
    inputs: Inputs | None = None

    @property
    def seeds(self) -> tuple[int, int]:
        """The seeds that set a replicate apart: which rows, and in what order and from what weights."""
        return self.params["data"]["seed"], self.params["train"]["seed"]

    @property
    def size(self) -> int:
        """The mix's rows."""
        size = self.params["data"]["size"]
        return self.trained["rows_in_mix"] if size == "all" else parse_value(size, Count, "data.size")

    @property
    def data(self) -> str | None:
        """What stands for the standardized data that it was made from."""
        if self.inputs is None:
            return None
        return hashlib.sha256(json.dumps(sorted(self.inputs.data.items())).encode()).hexdigest()[:7]


@dataclass(eq=False)
class Configuration:
    """Results that differ by their seeds alone, and the params that set them apart from the others'.

    Where others have the same params but were made from other data, `apart` has DATA too. Of results with the
    same seeds too, the first stands for all: they are no replicates.
    """

    apart: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    repeated: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Take a result in."""
        known = result.seeds in [other.seeds for other in self.results]
        (self.repeated if known else self.results).append(result)


class Stage(Enum):
    """What a result went through on some machine."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True)
class Mismatch:
    """A difference between results that is none of params: their devices, or versions of a package."""

    stage: Stage
    package: str | None  # None: the device
    values: list[str]


@dataclass(frozen=True)
class Missing:
    """A metric of a task that some results lack, by their names: they were evaluated before it came."""

    task: str
    metric: str
    results: list[str]


@dataclass(frozen=True)
class FarOut:
    """A replicate far from the others of its configuration, by a metric of the tasks' average."""

    result: str
    metric: str
    value: float
    others: list[float]


# Scores by task and metric, then by result's name, as (runs, examples).
ByResult = dict[tuple[str, str], dict[str, np.ndarray]]


def scores_of(results: Sequence[Result]) -> ByResult:
    """Return the scores of every task by the metrics that all results have.

    Raises UserError for results on other examples.
    """
    return {
        (task, metric): aligned(task, {result.name: result.scores[task, metric] for result in results})
        for task, metric in _in_order(results)
        if all((task, metric) in result.scores for result in results)
    }


def missing(results: Sequence[Result]) -> list[Missing]:
    """List the metrics that only some results have."""
    return [
        Missing(task, metric, names)
        for task, metric in _in_order(results)
        if (names := [result.name for result in results if (task, metric) not in result.scores])
    ]


def _in_order(results: Sequence[Result]) -> list[tuple[str, str]]:
    """List what any result was scored on, task by task, the metrics as their table has them."""
    known = dict.fromkeys(key for result in results for key in result.scores)
    tasks = list(dict.fromkeys(task for task, _ in known))
    return [(task, metric) for task in tasks for metric in METRICS if (task, metric) in known]


def averageable(scores: Mapping[tuple[str, str], Any]) -> list[str]:
    """List the metrics that all tasks have, which can be averaged over them."""
    tasks = {task for task, _ in scores}
    return [metric for metric in METRICS if tasks and all((task, metric) in scores for task in tasks)]


def parts_of(scores: ByResult, task: str, metric: str) -> list[dict[str, np.ndarray]]:
    """Return what a score is the average of: one task's scores by result, or those of all tasks."""
    if task != AVERAGE:
        return [scores[task, metric]]
    return [of_results for (_, name), of_results in scores.items() if name == metric]


def stacked(parts: Sequence[Mapping[str, np.ndarray]], results: Sequence[Result]) -> list[np.ndarray]:
    """Return scores of each part as (replicates, runs, examples)."""
    return [np.stack([part[result.name] for result in results]) for part in parts]


def replicate_means(scores: ByResult, task: str, metric: str, results: Sequence[Result]) -> np.ndarray:
    """Return each result's mean on a task, or on the tasks' average."""
    parts = stacked(parts_of(scores, task, metric), results)
    return np.mean([part.mean(axis=(1, 2)) for part in parts], axis=0)


def grouped(results: Sequence[Result]) -> list[Configuration]:
    """Group results into configurations, set apart by the params in which they differ, and by their data.

    The standardized data is meant: which rows of it the mix takes is data.seed's, and a replicate's own.
    """
    flat = [_flat(result.params) for result in results]
    names = sorted({name for params in flat for name in params} - {"data.seed", "train.seed"})
    differing = [name for name in names if len({str(params.get(name)) for params in flat}) > 1]
    data: dict[tuple[str, ...], list[str]] = {}  # by params, what is known of the data
    keys = []
    for result, params in zip(results, flat, strict=True):
        apart = {name: params.get(name) for name in differing}
        size = {"data.size": result.size} if "data.size" in apart else {}
        keys.append(tuple(map(str, (apart | size).values())))  # 100k and 100000 are the same
        known = data.setdefault(keys[-1], [])
        if result.data and result.data not in known:
            known.append(result.data)
    configurations: dict[tuple[str, ...], Configuration] = {}
    for result, params, key in zip(results, flat, keys, strict=True):
        apart = {name: params.get(name) for name in differing}
        if len(data[key]) > 1:  # one whose data nobody knows is taken for the first's
            of = result.data or data[key][0]
            apart, key = apart | {DATA: of}, (*key, of)
        configurations.setdefault(key, Configuration(apart)).add(result)
    return list(configurations.values())


def mismatches(results: Sequence[Result]) -> list[Mismatch]:
    """List what else than the params may have made results differ: devices and packages' versions."""
    listed = []
    of_stages: dict[Stage, Sequence[Provenance]] = {
        Stage.TRAINING: [result.trained for result in results],
        Stage.EVALUATION: [result.evaluated for result in results],
    }
    for stage, records in of_stages.items():
        listed.append(Mismatch(stage, None, sorted({record["device"] for record in records})))
        versions = [record["versions"] for record in records]
        for package in sorted({package for of_one in versions for package in of_one}):
            different = sorted({str(of_one.get(package)) for of_one in versions})
            listed.append(Mismatch(stage, package, different))
    return [mismatch for mismatch in listed if len(mismatch.values) > 1]


def other_code(results: Sequence[Result]) -> list[str]:
    """List the code that differs between results, of what more than one of them tells."""
    hashes: dict[str, set[str]] = {}
    for result in results:
        for name, code in (result.inputs.code if result.inputs else {}).items():
            hashes.setdefault(name, set()).add(code)
    return sorted(name for name, found in hashes.items() if len(found) > 1)


def outlying(configurations: Sequence[Configuration], scores: ByResult) -> list[FarOut]:
    """List the replicates that lie far out, by what is tested of the tasks' average."""
    found = []
    for metric in averageable(scores):
        if metric not in (BITS_PER_BYTE, TESTED_ROUGE):
            continue
        groups = [replicate_means(scores, AVERAGE, metric, of.results) for of in configurations]
        for place, index in far_out(groups):
            others = sorted(np.delete(groups[place], index).tolist())
            name = configurations[place].results[index].name
            found.append(FarOut(name, metric, float(groups[place][index]), others))
    return found


def _flat(params: dict[str, Any]) -> dict[str, Any]:
    """Return the params by their dotted names; data.weights, where it is a mapping, is one, and a text.

    Kinds that are not read are left out of it.
    """
    flat = {name: _at(params, name) for name in leaves(params) if not name.startswith(f"{WEIGHTS}.")}
    weights = params["data"].get("weights")
    if isinstance(weights, dict):
        numbers = {kind: parse_value(weight, Number, f"{WEIGHTS}.{kind}") for kind, weight in weights.items()}
        flat[WEIGHTS] = ", ".join(f"{kind} {number:g}" for kind, number in sorted(numbers.items()) if number)
    return flat


def _at(params: dict[str, Any], name: str) -> Any:
    value: Any = params
    for part in name.split("."):
        value = value[part]
    return value
