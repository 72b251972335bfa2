"""What a model card is made from: a run's params, what its stages recorded, and its scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sft.card.licences import package_of
from sft.card.params import AnswersParams, BaseParams, SourcesParams, TrainingParams
from sft.card.records import EvaluateRecord, MixMetrics, MixRecord, StandardizeRecord, TrainRecord
from sft.fetch.uri import Address, parse
from sft.statistics.gains import Gain
from sft.tasks.task import Task


@dataclass(frozen=True)
class Run:
    """A run of the pipeline; `license` is card.license, `gains` the rows of plots/gain.csv."""

    license: str
    model: BaseParams
    data: SourcesParams
    tasks: Sequence[Task]
    training: TrainingParams
    answers: AnswersParams
    standardize: StandardizeRecord
    mix: MixRecord
    mix_metrics: MixMetrics
    train: TrainRecord
    evaluate: EvaluateRecord
    gains: Sequence[Gain]

    @property
    def base(self) -> Address:
        """The base model's address."""
        return parse(self.model.reference)

    @property
    def base_id(self) -> str:
        """The base model's repository of the hub, "" where it has none that is known."""
        if self.base.scheme == "model":
            return self.base.name
        package = package_of(self.base)
        return package.hub_id if package else ""

    @property
    def base_name(self) -> str:
        """A short name of the base model."""
        return PurePosixPath(self.base_id or self.base.name).name

    @property
    def base_reference(self) -> str:
        """The base model's reference; of a folder elsewhere on a machine only the last part."""
        return shown(self.base) if self.base.scheme == "file" else self.model.reference

    @property
    def sources(self) -> dict[str, list[str]]:
        """The sources by URI, each with what it is used for: `base`, `extra`, or a task's name."""
        used: dict[str, list[str]] = {}
        named = [*((uri, "base") for uri in self.data.base), *((uri, "extra") for uri in self.data.extra)]
        for uri, what in [*named, *((task.source, f"task {task.name}") for task in self.tasks)]:
            used.setdefault(uri, []).append(what)
        return used


def shown(file: Address) -> str:
    """Return a file's path, of one outside the repository only the last part: a card names no machine."""
    path = PurePosixPath(file.name)
    return path.name if path.is_absolute() or ".." in path.parts else str(path)
