"""What differs between two texts of params.yaml, and the `dvc exp run` that makes the one of the other."""

import json
import shlex
from typing import Any

from sft.core import params
from stages.cli import PARAMS

ABSENT = "(none)"
Change = tuple[str, Any, Any]  # a param's dotted name, its old and its new value


def changed(old: str, new: str) -> list[Change]:
    """Return the params that differ, with their values; ABSENT where a side lacks one."""
    before, after = (_leaves(params.parse(text, PARAMS)) for text in (old, new))
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, before.get(name, ABSENT), after.get(name, ABSENT)) for name in names]
    return [change for change in pairs if change[1] != change[2]]


def command(name: str, commit: str, old: str, new: str, options: str = "") -> str:
    """Return what runs the experiment `name`, whose params are `new` and in `commit`, where they are `old`.

    Options set params to other values; where some are new or gone, params.yaml is taken from the commit.
    """
    run = f"dvc exp run {options}-n {shlex.quote(name)}"
    changes = changed(old, new)
    if any(ABSENT in change[1:] for change in changes):
        return f"git show {commit[:9]}:{PARAMS} > {PARAMS} && {run}"
    values = (f"{param}={json.dumps(value, ensure_ascii=False)}" for param, _, value in changes)
    return " ".join([run, *(f"-S {shlex.quote(value)}" for value in values)])


def _leaves(values: dict[str, Any], group: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{group}{key}.")
        else:
            found[f"{group}{key}"] = value
    return found
