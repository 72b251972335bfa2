"""Running a stage's main() from the command line: params in, one line instead of a traceback out."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft.core.errors import MissingFile, ParamError, UserError
from sft.core.params import leaves, load
from sft.core.snapshot import Snapshot
from stages import stopping
from stages.paths import RAW

PARAMS = "params.yaml"
PIPELINE = "dvc.yaml"
LOCK = "dvc.lock"
# The groups of params whose names the user chooses: dvc.yaml lists such a group, of all others the leaves.
GROUPS = ("tasks", "data.weights")


def described(error: UserError) -> str:
    """Return the error's message with what only the command knows.

    That is the file that a param stands in, and how to get a file that is missing.
    """
    if isinstance(error, ParamError):
        return f"{PARAMS}: {error}"
    if isinstance(error, MissingFile):
        return f"{error} {_how_to_get(error.path)}"
    return str(error)


def _how_to_get(path: Path) -> str:
    if path.is_relative_to(RAW):
        return f"If it is tracked, fetch it with `dvc pull`; else put it there and run `dvc add {path}`."
    stages = load(PIPELINE).get("stages", {}) if Path(PIPELINE).exists() else {}
    for name, stage in stages.items():
        for kind in ("outs", "metrics", "plots"):
            outputs = (out if isinstance(out, str) else next(iter(out)) for out in stage.get(kind, []))
            if any(path.is_relative_to(output) for output in outputs):
                return f"Run the stage that writes it: dvc repro {name}"
    return "Check the path."


def run(main: Callable[[dict[str, Any]], None]) -> None:
    """Call `main` with params.yaml; a fault that the user can mend exits with status 1 and says so.

    So does what stops it, with the status that a shell gives to the signal.
    """
    with stopping.handled() as request:
        try:
            _run(main)
        except stopping.Stopped as stopped:
            request.end(stopped)


def _run(main: Callable[[dict[str, Any]], None]) -> None:
    try:
        params = load(PARAMS)
        reject_unread(params)
        recorded = RecordedInputs.of_this_stage()
        main(params)
        recorded.check()
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.exit(f"error: {error.filename or 'output'}: the disk is full. Free some space and run again.")
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which this module does not import
            raise
        sys.exit(
            f"error: the GPU is out of memory: {str(error).partition('. ')[0]}. Set train.micro_batch and "
            "evaluate.batch_size to auto or lower, or model.load_in_4bit to true; see that nothing else uses "
            "the card."
        )


class RecordedInputs:
    """What DVC will record as the inputs of the stage that it runs here.

    DVC hashes code and params when a stage has ended, so what is edited while it runs would be recorded, in
    dvc.lock and in the run cache, as what its results were made of.
    """

    def __init__(self, stage: str, deps: list[str], names: list[str]):
        self._stage, self._names = stage, names
        self._files = Snapshot(deps)
        self._values = self._read()

    @classmethod
    def of_this_stage(cls) -> "RecordedInputs":
        """Remember the inputs now; there are none where DVC does not run us."""
        stage = os.environ.get("DVC_STAGE", "")
        stages = load(PIPELINE).get("stages", {}) if stage and Path(PIPELINE).exists() else {}
        listed = stages.get(stage, {})
        return cls(stage, listed.get("deps", []), listed.get("params", []))

    def check(self) -> None:
        """Raise UserError where the inputs are no longer those that the stage began with."""
        now = self._read()
        params = [
            f"{name} {self._values[name]} -> {now[name]}" for name in now if now[name] != self._values[name]
        ]
        if edited := params + self._files.changed():
            raise UserError(
                f"{', '.join(edited)}: changed while stage {self._stage} was running, so DVC would record "
                "its results as made of what they were not. To have them of what is there now, run again "
                f"(dvc repro); to keep them, put that back as it was, and: dvc commit --force {self._stage}"
            )

    def _read(self) -> dict[str, str]:
        values = load(PARAMS) if self._names else {}
        found: dict[str, str] = {}
        for name in self._names:
            value: Any = values
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            found[name] = str(value)
        return found


def reject_unread(params: dict[str, Any], pipeline: Path | str = PIPELINE) -> None:
    """Raise UserError for a param that no stage in dvc.yaml reads: it is misspelt, or does nothing.

    DVC itself complains of a param that a stage lists and the file lacks, but not of the other way round.
    """
    if not Path(pipeline).exists():
        return
    stages = load(pipeline).get("stages", {})
    read = {key for stage in stages.values() for key in stage.get("params", [])}
    groups = tuple(f"{group}." for group in GROUPS if group in read)
    for leaf in leaves(params):
        if leaf not in read and not leaf.startswith(groups):
            raise ParamError(f"{leaf}: no stage reads such a param. Is it misspelt?{_near(leaf, read)}")


def _near(leaf: str, known: set[str]) -> str:
    import difflib

    close = difflib.get_close_matches(leaf, sorted(known), n=1, cutoff=0.6)
    return f" The nearest is {close[0]}." if close else ""
