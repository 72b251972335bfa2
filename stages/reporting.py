"""What `train` reports to while it runs: the environment variable SFT_REPORT_TO names experiment trackers.

    SFT_REPORT_TO=tensorboard,mlflow dvc repro

It is no param, because it decides no result: the same adapter comes out, and `dvc repro` runs nothing for it.
"""

import os
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.core.masking import masked
from sft.core.params import leaves
from sft.training import trackers
from sft.training.trackers import Reports
from stages import kept_work, paths

VARIABLE = "SFT_REPORT_TO"
TOLD = ("model.", "data.weights.", "train.")  # the params that training reads


def report_to(values: dict[str, Any]) -> Reports | None:
    """Return what the environment asks for, None where it asks for nothing.

    Files of trackers lie in the repository, the parent's where DVC runs us in a copy, and stay. DVCLive's lie
    where DVC looks for them, in the copy. The run has the name of DVC's experiment, where there is one.
    Raises UserError for what is no tracker, or is not installed.
    """
    names = tuple(dict.fromkeys(filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(",")))))
    if not names:
        return None
    try:
        trackers.check(names)
    except UserError as error:
        raise UserError(f"{VARIABLE}: {error}") from None
    told = {leaf: _value(values, leaf) for leaf in leaves(values) if f"{leaf}.".startswith(TOLD)}
    place = kept_work.place()
    if place is None and "dvclive" in names:
        raise UserError(f"{VARIABLE}: dvclive reports to DVC, and {Path.cwd()} is in no repository of DVC's.")
    return Reports(
        names=names,
        run=os.environ.get("DVC_EXP_NAME") or trackers.run_name(),
        params=told,
        folder=place.with_name("trackers") if place else Path("trackers"),
        live=Path("dvclive"),
        curves=(Path(paths.TRAIN_LOSS), Path(paths.VALIDATION_LOSS)),
    )


def _value(values: Any, leaf: str) -> Any:
    for key in leaf.split("."):
        values = values[key]
    return masked(values) if isinstance(values, str) else values
