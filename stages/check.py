"""Check the params of all stages before the first of them runs: DVC deletes a stage's outputs at its start.

Every other stage depends on what this one writes, data/params-checked.txt, so DVC runs it first, and where a
param is at fault it runs nothing else and deletes nothing. The text is always the same: where the params are
in order, nothing that follows is out of date for it. What needs data, a model or this machine to be checked
(that data.size has so many rows, that a card takes 4 bits) stays with the stage that has them. SFT_REPORT_TO,
which is no param, is checked too: training comes late to find a typo.

Run as `python -m stages.check`, by hand too: before a queue of experiments, say.
"""

from typing import Any

from sft.card.params import CardParams
from sft.core.files import write_text
from sft.core.params import mapping, section
from sft.evaluation.evaluate import EvaluateParams
from sft.mixing.mix import MixParams
from sft.modeling.loading import ModelParams, model_address
from sft.tasks.task import TaskParams, tasks_of
from sft.training.mixture import MixtureParams
from sft.training.train_params import TrainParams
from stages import paths, reporting
from stages.cli import run
from stages.plot_params import PlotParams
from stages.standardize import StandardizeParams, addresses

CHECKED = "The params of all stages are in order.\n"


def main(values: dict[str, Any]) -> None:
    """Check the params, and SFT_REPORT_TO; raise ParamError, or UserError, for the first fault."""
    reporting.report_to(values)
    check_params(values)


def check_params(values: dict[str, Any]) -> None:
    """Read the params of every stage as that stage does, and write that they are in order.

    Raises ParamError for the first fault.
    """
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    addresses(section(values, "data", StandardizeParams), tasks)
    section(values, "data", MixParams)
    section(values, "data", MixtureParams)
    model_address(section(values, "model", ModelParams).reference)
    section(values, "train", TrainParams)
    section(values, "evaluate", EvaluateParams)
    section(values, "plot", PlotParams)
    section(values, "card", CardParams)
    write_text(paths.PARAMS_CHECKED, CHECKED)
    print("params  in order")


if __name__ == "__main__":
    run(main)
