"""What differs between two texts of params.yaml, and as options of `dvc exp run`."""

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


def as_options(changes: list[Change]) -> str:
    """Return the options that make these changes, quoted for a shell: `-S train.seed=7 -S ~tasks.mine`."""
    options = []
    for name, old, new in changes:
        if new == ABSENT:
            options.append(f"~{name}")
        else:
            options.append(f"{'+' if old == ABSENT else ''}{name}={json.dumps(new, ensure_ascii=False)}")
    return " ".join(f"-S {shlex.quote(option)}" for option in options)


def _leaves(values: dict[str, Any], group: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{group}{key}.")
        else:
            found[f"{group}{key}"] = value
    return found
