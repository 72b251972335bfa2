"""The cells of a study: every regime, size and replicate, each as the params that it changes."""

import copy
import json
import re
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sft.core.errors import UserError
from sft.core.params import Count, parse_value

# What the base model's scores depend on: these are the same in every cell, so it is evaluated once.
_SHARED = ("model.", "evaluate.", "data.evaluation", "data.holdout.")


@dataclass(frozen=True)
class Cell:
    """One training of a study: its name, and what it changes in params.yaml, by dotted names."""

    name: str
    changes: dict[str, Any]


def regime(values: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """Read PARAM=VALUE texts into changes of `values`.

    Raises UserError for a param that there is not, and for one that a study cannot change.
    """
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text!r} is not PARAM=VALUE, such as train.budget='1 epoch'.")
        _group(values, name)
        if name.startswith(_SHARED):
            raise UserError(f"{text}: all cells of a study share {name}. Change it in params.yaml.")
        if name in ("data.size", "data.seed", "train.seed"):
            raise UserError(f"{text}: the study itself varies {name}.")
        changes[name] = _read(value)
    return changes


def plan(
    values: dict[str, Any], sizes: list[str], replicates: list[int], regimes: list[dict[str, Any]]
) -> list[Cell]:
    """List the cells, replicate by replicate, so that an interrupted study has about as many of each.

    Replicate n adds n to data.seed and to train.seed. `replicates` has one number for each regime, or one
    for all. Raises UserError for what makes no plan.
    """
    for size in sizes:
        parse_value(_read(size), Count, "data.size")
    if len(replicates) == 1:
        replicates = replicates * len(regimes)
    if len(replicates) != len(regimes) or min(replicates) < 1:
        raise UserError(
            f"{len(replicates)} numbers of replicates to {len(regimes)} regimes: give one for each, or one "
            "for all, of at least 1."
        )
    cells = []
    for number in range(max(replicates)):
        for changes, wanted in zip(regimes, replicates, strict=True):
            if number < wanted:
                cells += [_cell(values, size, number, changes) for size in sizes]
    seen: dict[str, str] = {}
    for cell in cells:
        params = applied(values, cell.changes)
        params["data"]["size"] = parse_value(params["data"]["size"], Count, "data.size")
        key = json.dumps(params, sort_keys=True)
        if key in seen:
            raise UserError(
                f"{cell.name} and {seen[key]} are the same training: give sizes and regimes once."
            )
        seen[key] = cell.name
    return cells


def applied(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return params with the changes made."""
    result = copy.deepcopy(values)
    for name, value in changes.items():
        _group(result, name)[name.rpartition(".")[2]] = value
    return result


def _cell(values: dict[str, Any], size: str, number: int, changes: dict[str, Any]) -> Cell:
    named = [
        str(value) if name == "train.budget" else f"{name.rpartition('.')[2]}-{value}"
        for name, value in changes.items()
    ]
    words = "-".join([*named, size, str(number)])
    seeds = {f"{part}.seed": values[part]["seed"] + number for part in ("data", "train")}
    return Cell(re.sub(r"[^\w.]+", "-", words).strip("-"), {"data.size": _read(size), **seeds, **changes})


def _read(text: str) -> Any:
    """Read a value as params.yaml would have it."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UserError(f"{text!r} is no value: {error}") from error


def _group(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the mapping that holds the param of this dotted name; raise UserError where there is none."""
    *groups, leaf = name.split(".")
    at: Any = values
    for group in groups:
        at = at.get(group) if isinstance(at, dict) else None
    if not isinstance(at, dict) or leaf not in at or isinstance(at[leaf], dict):
        raise UserError(f"{name}: params.yaml has no such param. Is it misspelt?")
    return at
