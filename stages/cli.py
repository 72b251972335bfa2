"""Running a stage's main() from the command line: params in, one line instead of a traceback out."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft.core.errors import MissingFile, ParamError, UserError
from sft.core.params import leaves, load
from stages import inputs, kept_work, stopping
from stages.inputs import PARAMS as PARAMS
from stages.inputs import PIPELINE as PIPELINE
from stages.kept_work import LOCK as LOCK
from stages.paths import RAW

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


def run(
    main: Callable[[dict[str, Any]], None],
    launcher: int | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Call `main` with params.yaml; a fault that the user can mend exits with status 1 and says so.

    So does what stops it, with the status that a shell gives to the signal. `launcher` and `say` are those
    of a rank (stages/ranks.py).
    """
    with stopping.handled(launcher, say) as request:
        try:
            _run(main)
        except stopping.Stopped as stopped:
            request.end(stopped)


def _run(main: Callable[[dict[str, Any]], None]) -> None:
    try:
        params = load(PARAMS)
        reject_unread(params)
        if stage := os.environ.get("DVC_STAGE"):
            kept_work.remove_old(besides=f"{stage}/")
        with inputs.unchanged():
            main(params)
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
