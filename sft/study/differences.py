"""What sets results apart beside their params: devices, packages, code, and replicates that lie far out."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sft.statistics.outliers import far_out
from sft.statistics.significance import TESTED_ROUGE
from sft.study.result_scores import ByResult, averageable, replicate_means
from sft.study.results import Configuration, Provenance, Result
from sft.tasks.metric_names import BITS_PER_BYTE
from sft.tasks.task import AVERAGE


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
class FarOut:
    """A replicate far from the others of its configuration, by a metric of the tasks' average."""

    result: str
    metric: str
    value: float
    others: list[float]


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
