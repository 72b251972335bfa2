"""The runs of a study: every condition, size and replicate, each as the params that it changes."""

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sft.core.errors import ParamError, UserError
from sft.core.params import Count, parse_value
from sft.study.results import WEIGHTS

# What the base model's scores depend on: these are the same in every run, so it is evaluated once.
_SHARED = ("model.", "evaluate.", "tasks.", "data.holdout.")


# Characters of a value in a run's name, before the hash that tells it from others that begin alike.
LONGEST = 60


@dataclass(frozen=True)
class Run:
    """One training of a study: its name, and what it changes in the params, by dotted names."""

    name: str
    changes: dict[str, Any]


def condition(values: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """Read PARAM=VALUE texts into changes of `values`.

    Raises UserError for a text that is none, for a param that there is not (a ParamError), and for one that a
    study cannot change.
    """
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text!r} is not PARAM=VALUE, such as train.budget='1 epoch'.")
        _group(values, name)
        if name.startswith(_SHARED):
            raise UserError(f"{text}: all runs of a study share {name}. Change it for all of them.")
        if name in ("data.size", "data.seed", "train.seed"):
            raise UserError(f"{text}: the study itself varies {name}.")
        changes[name] = _read(value)
    return changes


def plan(
    values: dict[str, Any], sizes: list[str], replicates: list[int], conditions: list[dict[str, Any]]
) -> list[Run]:
    """List the runs, replicate by replicate, so that an interrupted study has about as many of each.

    Replicate n adds n to data.seed and to train.seed. `replicates` has one number for each condition, or one
    for all. Raises UserError for what makes no plan.
    """
    for size in sizes:
        try:
            parse_value(_read(size), Count, "size")
        except ParamError as error:  # but it is none of the params' file
            raise UserError(str(error)) from None
    if len(replicates) == 1:
        replicates = replicates * len(conditions)
    if len(replicates) != len(conditions) or min(replicates) < 1:
        raise UserError(
            f"{len(replicates)} numbers of replicates to {len(conditions)} conditions: give one for each, or "
            "one for all, of at least 1."
        )
    runs = []
    for number in range(max(replicates)):
        for changes, wanted in zip(conditions, replicates, strict=True):
            if number < wanted:
                runs += [_run(values, size, number, changes) for size in sizes]
    seen: dict[str, str] = {}
    for run in runs:
        params = applied(values, run.changes)
        params["data"]["size"] = parse_value(params["data"]["size"], Count, "data.size")
        key = json.dumps(params, sort_keys=True)
        if key in seen:
            raise UserError(
                f"{run.name} and {seen[key]} are the same training: give sizes and conditions once."
            )
        if run.name in seen.values():
            raise UserError(
                f"two different trainings would be called {run.name}, after the last part of a param's name "
                "and its value. Study these conditions one at a time, each with an --out of its own."
            )
        seen[key] = run.name
    return runs


def applied(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return params with the changes made."""
    result = copy.deepcopy(values)
    for name, value in changes.items():
        _group(result, name)[name.rpartition(".")[2]] = value
    return result


def _run(values: dict[str, Any], size: str, number: int, changes: dict[str, Any]) -> Run:
    named = [
        _slug(str(value)) if name == "train.budget" else f"{name.rpartition('.')[2]}-{_in_name(value)}"
        for name, value in changes.items()
    ]
    seeds = {f"{part}.seed": values[part]["seed"] + number for part in ("data", "train")}
    return Run("-".join([*named, _slug(size), str(number)]), {"data.size": _read(size), **seeds, **changes})


def _in_name(value: Any) -> str:
    """Write a value as a part of a run's name, which is a folder's too; unlike values are written unlike."""
    text = str(value)
    if re.fullmatch(r"[\w.-]+", text):  # with the sign: 1 and -1 are not one run
        return text
    return f"{_slug(text)[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def _read(text: str) -> Any:
    """Read a value as YAML, which params are written in."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UserError(f"{text!r} is no value: {error}") from error


def _group(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the mapping that holds the param of this dotted name; raise ParamError where there is none."""
    *groups, leaf = name.split(".")
    at: Any = values
    for group in groups:
        at = at.get(group) if isinstance(at, dict) else None
    if not isinstance(at, dict) or leaf not in at or (isinstance(at[leaf], dict) and name != WEIGHTS):
        raise ParamError(f"{name}: no such param. Is it misspelt?")
    return at
