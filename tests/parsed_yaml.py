"""DVC in the tests' own process parses a YAML text once, not dozens of times a command.

ruamel.yaml's parser is written in Python, and takes a twentieth of a second for the pipeline's dvc.lock: more
than half of what DVC takes in this process.
"""

import copy
from functools import lru_cache
from typing import Any

import pytest
from dvc.utils import strictyaml
from dvc.utils.serialize import _yaml

_parse = _yaml.parse_yaml


@lru_cache(maxsize=100)
def _parsed(text: str, typ: str) -> Any:
    return _parse(text, "", typ)


def parse_yaml(text: str, path: str, typ: str = "safe") -> Any:
    """Return what DVC's function of this name does: a copy, since DVC changes what it gets."""
    try:
        return copy.deepcopy(_parsed(text, typ))
    except _yaml.YAMLFileCorruptedError:
        return _parse(text, path, typ)  # whose error names the file


def install(patch: pytest.MonkeyPatch) -> None:
    """Have DVC use it in this process."""
    for module in (strictyaml, _yaml):
        patch.setattr(module, "parse_yaml", parse_yaml)
