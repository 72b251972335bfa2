"""What DVC reads and writes of YAML in the tests' process is what it does by itself."""

import io
from typing import Any

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, _yaml

from tests import parsed_yaml
from tests.imports import ROOT
from tests.parsed_yaml import parse_yaml

LOCK = (ROOT / "dvc.lock").read_text(encoding="utf-8")

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


def written(data: Any, dump: Any) -> str:
    stream = io.StringIO()
    dump(data, stream)
    return stream.getvalue()


def test_a_lock_is_read_and_written_stage_by_stage() -> None:
    for _ in range(2):
        theirs = parsed_yaml._parse(LOCK, "dvc.lock", "rt")
        ours = parsed_yaml.parse_yaml_for_update(LOCK, "dvc.lock")
        assert type(ours) is dict and ours == parse_yaml(LOCK, "dvc.lock") == theirs
        for lock in (ours, theirs):
            lock["stages"]["train"]["params"]["params.yaml"] = {
                "a": 1e-5,
                "b": None,
                "c": [True, "1e5"],
                "d": "x " * 99,
            }
            lock["stages"] |= {"more": {"cmd": "echo"}}
            del lock["stages"]["mix"]
        assert written(ours, parsed_yaml.dump) == written(theirs, parsed_yaml._dump)


@pytest.mark.parametrize(
    "text",
    [
        LOCK.replace("stages:", "stages:  # mine"),
        LOCK + "datasets:\n- name: a\n",
        "schema: '2.0'\nstages:\n  plot:\n    params: {1: 2}\n",
        "schema: '2.0'\nstages: {}\n",
    ],
)
def test_what_is_no_such_lock_is_dvc_s_own(text: str) -> None:
    theirs = parsed_yaml._parse(text, "dvc.lock", "rt")
    assert parse_yaml(text, "dvc.lock") == theirs
    ours = parsed_yaml.parse_yaml_for_update(text, "dvc.lock")
    assert ours == theirs and written(ours, parsed_yaml.dump) == written(ours, parsed_yaml._dump)


@pytest.mark.parametrize("end", ["  plot:\n    cmd: [", "  train:\n    cmd: twice\n"])
def test_a_lock_that_is_damaged_is_dvc_s_fault(end: str) -> None:
    for parse in (parse_yaml, parsed_yaml.parse_yaml_for_update):
        with pytest.raises(YAMLFileCorruptedError) as raised:
            parse(LOCK + end, "dvc.lock")
        assert raised.value.path == "dvc.lock"
