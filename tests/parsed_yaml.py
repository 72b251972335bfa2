"""The tests' own process parses and writes a YAML text once, not dozens of times a command.

ruamel.yaml is written in Python, and takes a twentieth of a second for the pipeline's dvc.lock, and twice
that where DVC changes it: three quarters of what DVC takes in this process. Of a lock each stage is a text
of its own, for a command changes one after another.
"""

import copy
import io
import json
import re
from functools import lru_cache
from typing import Any, TextIO

import pytest
from dvc.utils import strictyaml
from dvc.utils.serialize import _yaml

from sft.core import params

# As they are before `install`.
_parse, _dump, _YAML = _yaml.parse_yaml, _yaml._dump, params.YAML

_HEAD = "schema: '2.0'\nstages:\n"


def copied(value: Any) -> Any:
    """Return what copy.deepcopy does; of plain mappings and lists in a fraction of its time."""
    if type(value) is dict:
        return {key: copied(of) for key, of in value.items()}
    if type(value) is list:
        return [copied(of) for of in value]
    return value if type(value) is str else copy.deepcopy(value)


@lru_cache(maxsize=400)
def _parsed(text: str, typ: str) -> Any:
    return _parse(text, "", typ)


@lru_cache(maxsize=400)
def _params(text: str) -> Any:
    return _YAML(typ="safe", pure=True).load(text)


class Params:
    """What sft.core.params reads YAML with."""

    def __init__(self, typ: str, pure: bool):
        assert (typ, pure) == ("safe", True)

    def load(self, text: str) -> Any:
        return copied(_params(text))


def parse_yaml(text: str, path: str, typ: str = "safe") -> Any:
    """Return what DVC's function of this name does: a copy, since DVC changes what it gets."""
    try:
        if typ == "safe" and (lock := _parsed_lock(text)):
            return lock
        return copied(_parsed(text, typ))
    except _yaml.YAMLFileCorruptedError:
        return _parse(text, path, typ)  # whose error names the file


def parse_yaml_for_update(text: str, path: str) -> Any:
    """Return what DVC's function of this name does; of a lock without where its lines break."""
    try:
        return _parsed_lock(text) or parse_yaml(text, path, "rt")
    except _yaml.YAMLFileCorruptedError:
        return _parse(text, path, "rt")


def _parsed_lock(text: str) -> dict[str, Any] | None:
    """Parse a dvc.lock as DVC writes it, stage by stage; return None for another text."""
    if not text.startswith(_HEAD) or re.search(r"(^|\s)#", text, re.MULTILINE):
        return None
    parts = re.split(r"^(?=  \S)", text.removeprefix(_HEAD), flags=re.MULTILINE)
    stages: dict[str, Any] = {}
    for part in filter(None, parts):
        of = _parsed(f"stages:\n{part}", "safe")
        if (
            of.keys() != {"stages"}
            or not isinstance(of["stages"], dict)
            or stages.keys() & of["stages"].keys()
        ):
            return None
        stages |= of["stages"]
    return {"schema": "2.0", "stages": copied(stages)} if stages else None


def dump(data: Any, stream: TextIO) -> None:
    """Write what DVC's function `_dump` does."""
    stream.write(_lock_text(data) or _text(data))


def _text(data: Any) -> str:
    stream = io.StringIO()
    _dump(data, stream)
    return stream.getvalue()


def _lock_text(data: Any) -> str | None:
    """Return the text of a dvc.lock without comments, stage by stage; None for something else."""
    if type(data) is not dict or [*data] != ["schema", "stages"] or not data["stages"]:
        return None
    texts = {json.dumps({name: of}, default=str): {name: of} for name, of in data["stages"].items()}
    if data["schema"] != "2.0" or any(json.loads(text) != of for text, of in texts.items()):
        return None
    return _HEAD + "".join(map(_stage_text, texts))


@lru_cache(maxsize=400)
def _stage_text(stage: str) -> str:
    return _text({"stages": json.loads(stage)}).removeprefix("stages:\n")


def install(patch: pytest.MonkeyPatch) -> None:
    """Have DVC, and the params' module, use it in this process."""
    for module in (strictyaml, _yaml):
        patch.setattr(module, "parse_yaml", parse_yaml)
    patch.setattr(_yaml, "parse_yaml_for_update", parse_yaml_for_update)
    patch.setattr(_yaml, "_dump", dump)
    patch.setattr(params, "YAML", Params)
