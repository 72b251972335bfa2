"""Results of trainings, and which of them are replicates of one configuration."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from sft.core.params import Count, Number, leaves, parse_value
from sft.statistics.scores import Scores

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
