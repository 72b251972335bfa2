"""Running a stage's main() from the command line: params in, one line instead of a traceback out."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft.core.errors import ParamError, UserError
from sft.core.params import leaves, load

PARAMS = "params.yaml"
# The groups of params whose names the user chooses: dvc.yaml lists such a group, of all others the leaves.
GROUPS = ("tasks",)


def described(error: UserError) -> str:
    """Return the error's message; that of a param begins with the file that the param stands in."""
    return f"{PARAMS}: {error}" if isinstance(error, ParamError) else str(error)


def run(main: Callable[[dict[str, Any]], None]) -> None:
    """Call `main` with params.yaml; a fault that the user can mend exits with status 1 and says so."""
    try:
        params = load(PARAMS)
        reject_unread(params)
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


def reject_unread(params: dict[str, Any], pipeline: Path | str = "dvc.yaml") -> None:
    """Raise UserError for a param that no stage in dvc.yaml reads: it is misspelt, or does nothing.

    DVC itself complains of a param that a stage lists and the file lacks, but not of the other way round.
    """
    if not Path(pipeline).exists():
        return
    stages = load(pipeline).get("stages", {})
    read = {key for stage in stages.values() for key in stage.get("params", [])}
    for leaf in leaves(params):
        group = leaf.partition(".")[0]
        if leaf not in read and not (group in GROUPS and group in read):
            raise ParamError(f"{leaf}: no stage reads such a param. Is it misspelt?{_near(leaf, read)}")


def _near(leaf: str, known: set[str]) -> str:
    import difflib

    close = difflib.get_close_matches(leaf, sorted(known), n=1, cutoff=0.6)
    return f" The nearest is {close[0]}." if close else ""
