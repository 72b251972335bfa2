"""What dvc.lock has of a run of the stage check, made without running it: it writes the same text always.

So a merge whose sides changed different params, which neither side has checked together, leaves nothing of
it to run.
"""

import contextlib
import hashlib
import io
from pathlib import Path

from scripts.lock_entries import CONSTANT, Entry
from scripts.stage_entries import Stages
from sft.core.params import load
from stages import check
from stages.cli import PARAMS, reject_unread


def is_check(stages: Stages, name: str) -> bool:
    """Tell whether a stage makes nothing but what is always the same."""
    return set(stages.outs(name)) <= set(CONSTANT)


def checked(stages: Stages, name: str) -> Entry | None:
    """Check the params here as the stage does, and write what it writes; return what dvc.lock has of that.

    None where an input of the stage is missing that another makes. Raises ParamError for the first fault.
    """
    values = load(PARAMS)
    reject_unread(values)
    with contextlib.redirect_stdout(io.StringIO()):
        check.check_params(values)
    inputs = stages.inputs(name, {})
    return inputs and inputs | {"outs": [_out(out["path"]) for out in inputs["outs"]]}


def _out(path: str) -> Entry:
    content = Path(path).read_bytes()
    return {"path": path, "hash": "md5", "md5": hashlib.md5(content).hexdigest(), "size": len(content)}
