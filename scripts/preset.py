"""Put a preset's values into params.yaml, keeping its comments and showing what changes.

Run as `python -m scripts.preset NAME`, where presets/NAME.yaml holds a part of params.yaml.
"""

import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sft.core.errors import UserError
from sft.core.files import replacing
from sft.core.params import load
from stages.cli import described

# Replaced whole: its names depend on data.base and data.extra.
REPLACED = ("data.weights",)


def apply(name: str, params: Path | str = "params.yaml", folder: Path | str = "presets") -> list[str]:
    """Write the values of `folder/name.yaml` into `params`; return a line for each that changed.

    Raises UserError for a preset that does not exist, that names a param which `params` has not, or that has
    a value for a group of params or the other way round; nothing is written then.
    """
    path = Path(folder) / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in Path(folder).glob("*.yaml")))
        raise UserError(f"{path}: no such preset. There are: {known}.")
    for checked in (params, path):
        load(checked)  # refuses what is not a params file
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    document = yaml.load(Path(params).read_text(encoding="utf-8"))
    changes: list[str] = []
    _overlay(document, yaml.load(path.read_text(encoding="utf-8")), "", path, changes)
    with replacing(params) as temporary, temporary.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return changes


def _overlay(target: Any, values: Any, prefix: str, path: Path, changes: list[str]) -> None:
    for key, value in values.items():
        where = f"{prefix}{key}"
        if key not in target:
            raise UserError(f"{path}: {where}: params.yaml has no such param. Is it misspelt?")
        if where in REPLACED:
            if target[key] != value:
                changes.append(f"{where}: {_plain(target[key])} -> {_plain(value)}")
                target[key] = value
            continue
        if isinstance(value, dict) != isinstance(target[key], dict):
            raise UserError(f"{path}: {where}: {_mismatch(target[key])}")
        if isinstance(value, dict):
            _overlay(target[key], value, f"{where}.", path, changes)
        elif target[key] != value:
            changes.append(f"{where}: {_plain(target[key])} -> {_plain(value)}")
            if isinstance(value, list) and isinstance(target[key], list):
                _replace(target[key], value)
            else:
                target[key] = value


def _mismatch(target: Any) -> str:
    if isinstance(target, dict):
        return f"a group of params ({', '.join(target)}). Indent what it sets below it, or leave it out."
    return "one param, not a group: give it a value."


def _replace(old: Any, new: list[Any]) -> None:
    """Put `new` into the list `old`; the comment that follows it hangs on its last item, so it moves."""
    following = old.ca.items.get(len(old) - 1)
    old[:] = new
    old.ca.items.clear()
    if following and new:
        old.ca.items[len(new) - 1] = following


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m scripts.preset NAME")
    try:
        lines = apply(sys.argv[1])
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    print("\n".join(lines) if lines else "params.yaml has these values already")
