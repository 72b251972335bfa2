"""Write the adapter's model card: models/README.md, beside models/adapter/.

Reads params, plots/gain.csv, metrics/mix.json and what the stages before recorded in provenance/. It loads no
model. models/adapter/ is an output of train, so the card cannot lie in it; `make publish` and `make export`
put it beside the weights as README.md.

Run as `python -m stages.card`.
"""

from typing import Any

from sft.card import card, records
from sft.card.params import AnswersParams, BaseParams, CardParams, SourcesParams, TrainingParams
from sft.card.run import Run
from sft.core.files import write_text
from sft.core.params import mapping, section
from sft.tasks.task import TaskParams, tasks_of
from stages import paths
from stages.cli import run
from stages.gain_file import read_gains


def main(values: dict[str, Any]) -> None:
    """Read what is known of the adapter and write its card."""
    made = Run(
        license=section(values, "card", CardParams).license,
        model=section(values, "model", BaseParams),
        data=section(values, "data", SourcesParams),
        tasks=tasks_of(mapping(values, "tasks", TaskParams)),
        training=section(values, "train", TrainingParams),
        answers=section(values, "evaluate", AnswersParams),
        standardize=records.read(paths.PROVENANCE_STANDARDIZE, records.StandardizeRecord, "standardize"),
        mix=records.read(paths.PROVENANCE_MIX, records.MixRecord, "mix"),
        mix_metrics=records.read(paths.METRICS_MIX, records.MixMetrics, "mix"),
        train=records.read(paths.PROVENANCE_TRAIN, records.TrainRecord, "train"),
        evaluate=records.read(paths.PROVENANCE_EVALUATE, records.EvaluateRecord, "evaluate"),
        gains=read_gains(),
    )
    write_text(paths.CARD, card.build(made))
    print(f"card  {paths.CARD}: licence {made.license}")


if __name__ == "__main__":
    run(main)
