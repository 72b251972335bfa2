"""What DVC gets of a YAML text that was parsed before is what its own parser gives."""

import io

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, _yaml

from tests.parsed_yaml import parse_yaml

TEXT = "# A remark.\nstages:\n  train:  # another\n    params: [a, b]\n"


@pytest.mark.parametrize("typ", ["safe", "rt"])
def test_a_change_of_one_is_not_in_the_next(typ: str) -> None:
    first = parse_yaml(TEXT, "dvc.yaml", typ)
    first["stages"]["train"]["params"].append("c")
    again = parse_yaml(TEXT, "dvc.yaml", typ)
    assert again == {"stages": {"train": {"params": ["a", "b"]}}}
    if typ == "rt":
        written = io.StringIO()
        _yaml._dump(again, written)
        assert written.getvalue() == TEXT


def test_a_fault_names_the_file() -> None:
    for name in ("dvc.yaml", "dvc.lock"):
        with pytest.raises(YAMLFileCorruptedError) as raised:
            parse_yaml("stages: [", name)
        assert raised.value.path == name
    assert parse_yaml("", "empty.yaml") == {}
