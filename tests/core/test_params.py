"""Params: how numbers may be spelt, what is refused and in which words, and params that nothing reads."""

import math
from typing import Literal

import pytest

from sft.core.errors import ParamError, UserError
from sft.core.params import (
    Count,
    Integer,
    Number,
    Params,
    Share,
    Text,
    load,
    mapping,
    parse_value,
    section,
)


class Inner(Params):
    rank: Integer
    names: list[Text]


class Outer(Params):
    size: Count
    rate: Number
    engine: Literal["trl", "unsloth"]
    checkpoints: bool
    inner: Inner
    note: Text | None


def written(folder, text):
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("spelt", "number"),
    [
        ("300k", 300_000),
        ("300K", 300_000),
        ("300_000", 300_000),
        ("'300_000'", 300_000),
        ("1e5", 100_000),
        ("'1e5'", 100_000),
        ("1.5M", 1_500_000),
        ("2.01M", 2_010_000),
        ("0.3k", 300),
        ("1_000k", 1_000_000),
        ("' 7 '", 7),
        ("8.0", 8),
        ("1", 1),
    ],
)
def test_counts(tmp_path, spelt, number):
    value = load(written(tmp_path, f"size: {spelt}\n"))["size"]
    count = parse_value(value, Count, "size")
    assert count == number and isinstance(count, int)


def test_every_count_of_three_decimals_is_exact():
    assert [parse_value(f"{n / 1000:.3f}M", Count, "size") for n in range(1, 3000)] == [
        n * 1000 for n in range(1, 3000)
    ]


@pytest.mark.parametrize(
    "spelt",
    [
        "300kk",
        "-5",
        "0",
        ".nan",
        ".inf",
        "'nan'",
        "'inf'",
        "1e999",
        "true",
        "1.5",
        "1.0005k",
        "''",
        "'k'",
        "1__0k",
        "[1]",
        "{}",
        "null",
        "many",
    ],
)
def test_what_is_no_count(tmp_path, spelt):
    value = load(written(tmp_path, f"size: {spelt}\n"))["size"]
    with pytest.raises(UserError) as caught:
        parse_value(value, Count, "data.size")
    message = str(caught.value)
    assert message.startswith("data.size: ") and repr(value) in message and "1.5M" in message


@pytest.mark.parametrize(
    ("value", "kind", "built"),
    [
        ("2e-4", Number, 2e-4),
        (1, Number, 1.0),
        (-3, Integer, -3),
        ("3e2", Integer, 300),
        (2**63 + 1, Integer, 2**63 + 1),
        (0, Share, 0.0),
        ("1", Share, 1.0),
        (["a", "b"], list[Text], ["a", "b"]),
        (None, Text | None, None),
        ("x", Text | None, "x"),
        (False, bool, False),
        ("trl", Literal["trl", "unsloth"], "trl"),
        ("auto", Literal["auto"] | Count, "auto"),
        ("4k", Literal["auto"] | Count, 4000),
        ("auto", Literal["auto"] | bool, "auto"),
        (False, Literal["auto"] | bool, False),
    ],
)
def test_coercion(value, kind, built):
    coerced = parse_value(value, kind, "x")
    assert coerced == built
    assert type(coerced) is type(built)


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        (1.5, Integer, "a whole number"),
        (math.inf, Integer, "a finite number"),
        (math.nan, Number, "a finite number"),
        (10**400, Number, "a number"),
        (True, Number, "a number"),
        (None, Number, "a number"),
        ([1], Number, "a number"),
        ("fast", Number, "a number"),
        (1.01, Share, "from 0 to 1"),
        (-0.1, Share, "from 0 to 1"),
        ("no", bool, "true or false"),
        (1, bool, "true or false"),
        (1, Text, "a text"),
        ("", Text, "a text"),
        ("a", list[Text], "a list"),
        ({"a": 1}, list[Text], "a list"),
        (True, Integer, "a number"),
        (True, Share, "a number"),
        (True, Count, "a positive whole number"),
        (0, Text | None, "a text"),
        ("TRL", Literal["trl", "unsloth"], "one of trl, unsloth"),
        (["trl"], Literal["trl", "unsloth"], "one of trl, unsloth"),
        ("Auto", Literal["auto"] | Count, "'Auto' is not a positive whole number such as"),
        ("Auto", Literal["auto"] | Count, "1.5M, nor auto."),
        (0, Literal["auto"] | Count, "nor auto"),
        (["auto"], Literal["auto"] | bool, "true or false, nor auto."),
        ("all", Literal["any"] | list[Text], "'all' is not a list, nor any."),
    ],
)
def test_values_of_the_wrong_type(value, kind, wanted):
    with pytest.raises(UserError) as caught:
        parse_value(value, kind, "train.x")
    message = str(caught.value)
    assert message.startswith("train.x: ") and wanted in message


def test_the_wrong_item_of_a_list_is_named():
    with pytest.raises(UserError, match=r"train\.names\[1\]: 3 is not a text"):
        parse_value(["a", 3], list[Text], "train.names")
    with pytest.raises(UserError, match=r"train\.names\[1\]: 3 is not a text\.$"):
        parse_value(["a", 3], Literal["any"] | list[Text], "train.names")


GOOD = """train:
  size: 10k
  rate: 2e-4
  engine: trl
  checkpoints: false
  inner:
    rank: 16
    names:
      - no
      - "on"
      - yes
  note:
"""


def test_a_section(tmp_path):
    """YAML 1.2: 2e-4 is a number (PyYAML: a text), and `no` a text (PyYAML: false)."""
    values = load(written(tmp_path, GOOD))
    assert isinstance(values["train"]["rate"], float)
    built = section(values, "train", Outer)
    assert built == Outer(
        size=10_000,
        rate=0.0002,
        engine="trl",
        checkpoints=False,
        inner=Inner(rank=16, names=["no", "on", "yes"]),
        note=None,
    )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("  size: 10k\n", "", "train.size: missing."),
        ("size:", "sise:", "train.size: missing. Is 'sise' meant to be 'size'?"),
        ("rank:", "rnak:", "train.inner.rank: missing. Is 'rnak' meant to be 'rank'?"),
        ("10k", "10kk", "train.size: '10kk' is not"),
        ("rank: 16", "rank: 1.5", "train.inner.rank: 1.5 is not a whole number."),
        ('- "on"', "- 3", "train.inner.names[1]: 3 is not a text."),
        ("note:", "note: 3", "train.note: 3 is not a text."),
        ("train:", "tarin:", "train: missing, or not a mapping."),
    ],
)
def test_faults_in_a_section(tmp_path, before, after, message):
    values = load(written(tmp_path, GOOD.replace(before, after, 1)))
    with pytest.raises(UserError) as caught:
        section(values, "train", Outer)
    assert str(caught.value).startswith(message)


def test_another_stage_s_keys_are_no_suggestion(tmp_path):
    values = load(written(tmp_path, GOOD.replace("  size: 10k\n", "  zebra: 1\n", 1)))
    with pytest.raises(UserError) as caught:
        section(values, "train", Outer)
    assert str(caught.value) == "train.size: missing."


def test_a_group_that_is_none(tmp_path):
    values = load(written(tmp_path, GOOD))
    values["train"]["inner"] = "deep"
    with pytest.raises(ParamError) as caught:
        section(values, "train", Outer)
    assert str(caught.value) == "train.inner: 'deep' is not a mapping."


def test_a_mapping():
    entries = {"first": {"rank": 1, "names": ["a"], "more": 1}, "the_2nd": {"rank": "2", "names": []}}
    built = mapping({"tasks": entries}, "tasks", Inner)
    assert built == {"first": Inner(rank=1, names=["a"]), "the_2nd": Inner(rank=2, names=[])}
    assert list(built) == ["first", "the_2nd"]
    assert mapping({"tasks": {}}, "tasks", Inner) == {}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (None, "tasks: missing, or not a mapping."),
        ([{"rank": 1}], "tasks: missing, or not a mapping."),
        ({"first": 3}, "tasks.first: 3 is not a mapping."),
        ({"first": {"rank": "x", "names": []}}, "tasks.first.rank: 'x' is not a number."),
        ({"first": {"rnak": 1, "names": []}}, "tasks.first.rank: missing. Is 'rnak' meant to be 'rank'?"),
        ({"the first": {"rank": 1, "names": []}}, "tasks.the first: 'the first' is not a short name of"),
        (
            {"First": {"rank": 1, "names": []}},
            "tasks.First: 'First' is not a short name of small letters, digits and _, beginning with",
        ),
        ({"a.b": {"rank": 1, "names": []}}, "tasks.a.b: 'a.b' is not a short name of"),
        (
            {"size": {"rank": 1, "names": []}},
            "tasks.size: a key in here cannot be called size: the run",
        ),
        ({"first": {"rank": 1, "names": [], "nfiles": 1}}, "tasks.first.nfiles: a key in here cannot"),
        ({"first": {"rank": 1, "names": [{"a": {"size": 1}}]}}, "tasks.first.names[0].a.size: a key in here"),
    ],
)
def test_faults_in_a_mapping(entries, message):
    """size and nfiles: DVC's run cache leaves them out of what it hashes of a mapping, at any depth."""
    with pytest.raises(ParamError) as caught:
        mapping({"tasks": entries}, "tasks", Inner)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1\n", "not valid YAML"),
        (b"a: 1\na: 2\n", "not valid YAML"),
        (b"a: \xff\n", "not UTF-8"),
        (b"- 1\n", "expected a mapping of params at the top, found list"),
        (b"", "expected a mapping of params at the top, found NoneType"),
    ],
)
def test_files_that_are_no_params(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="Run from the repository's root"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize("written", ["1.5", 1.5, "1e400"])
def test_an_error_quotes_what_is_written(written):
    """Not what pydantic has made of it."""
    with pytest.raises(ParamError) as caught:
        parse_value(written, Integer, "train.seed")
    assert str(caught.value).startswith(f"train.seed: {written!r} is not a ")
