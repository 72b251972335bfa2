"""params.yaml with random values: each is taken, or refused in a sentence that names the param."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.params_schema import SECTIONS
from sft.core.errors import UserError
from sft.core.params import leaves, load, mapping, parse, section
from sft.tasks.task import TaskParams, tasks_of
from stages import cli
from stages.cli import described, reject_unread
from tests.fuzzing import cases

PARAMS = load("params.yaml")
NAMES = [*leaves(PARAMS)]
ODD = [
    None,
    "",
    " ",
    "auto",
    "all",
    "nan",
    "inf",
    "-1",
    "1e400",
    "300kk",
    "1_000",
    "0.5",
    "true",
    "~",
    "\0",
    "é",
]
ODD += [
    "10 steps",
    "0 steps",
    "1e9999 tokens",
    "-5k rows",
    "hf://a/b@c",
    "pypi://a==1",
    "data/raw/x.jsonl",
    "9" * 5000,
]
VALUES = st.recursive(
    st.one_of(
        st.sampled_from([*ODD, True, False, 0, -1, 1, 10**30, 10**400, 1.5, -0.0, 1e308]),
        st.floats(),
        st.integers(),
        st.text(max_size=6),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(["size", "source", "holdout", "a", "A"]), st.integers()),
            inner,
            max_size=2,
        ),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """Read dvc.yaml, which does not change, for all cases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "load", cache(load))
        yield


def read(values: dict[str, Any]) -> None:
    """Read params as the stages do."""
    reject_unread(values)
    for name, kinds in SECTIONS.items():
        if name == "tasks":
            tasks_of(mapping(values, name, TaskParams))
        else:
            for kind in kinds:
                section(values, name, kind)


def put(values: dict[str, Any], name: str, value: Any) -> None:
    *groups, last = name.split(".")
    for group in groups:
        values = values[group]
    values[last] = value


def refusal(values: dict[str, Any]) -> str | None:
    try:
        read(values)
    except UserError as error:
        return described(error)
    return None


def test_params_as_they_are():
    assert refusal(deepcopy(PARAMS)) is None


@cases(2.0)
@given(st.sampled_from(NAMES), VALUES)
def test_any_value_of_any_param(name, value):
    values = deepcopy(PARAMS)
    put(values, name, value)
    said = refusal(deepcopy(values))
    assert said == refusal(values)
    if said is not None:
        assert "params.yaml: " in said
        assert name.split(".")[0] in said


@cases(0.5)
@given(
    st.sampled_from(["data", "tasks", "train", "model", "evaluate", "plot", "data.weights", "data.holdout"]),
    VALUES,
)
def test_any_value_of_a_group(name, value):
    values = deepcopy(PARAMS)
    put(values, name, value)
    said = refusal(values)
    assert said is None or "params.yaml: " in said


@cases(1.0)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from([*"{}[]:-&*!|>%@`'\"# \n\tab1.e"]), max_size=30).map("".join),
    )
)
def test_any_text_as_a_params_file(text):
    try:
        parse(text, "params.yaml")
    except UserError as error:
        assert "params.yaml" in str(error)
