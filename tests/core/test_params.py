"""Params: how numbers may be spelt, what is refused and in which words, and params that nothing reads."""

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from sft.core.errors import UserError
from sft.core.params import Count, Share, coerce, leaves, load, section
from stages.cli import reject_unread
from tests.imports import ROOT


@dataclass
class Inner:
    rank: int
    names: list[str]


@dataclass
class Outer:
    size: Count
    rate: float
    engine: Literal["trl", "unsloth"]
    checkpoints: bool
    inner: Inner
    note: str | None


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
    count = coerce(value, Count, "size")
    assert count == number and isinstance(count, int)


def test_every_count_of_three_decimals_is_exact():
    assert [coerce(f"{n / 1000:.3f}M", Count, "size") for n in range(1, 3000)] == [
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
        coerce(value, Count, "data.size")
    message = str(caught.value)
    assert message.startswith("data.size: ") and repr(value) in message and "1.5M" in message


@pytest.mark.parametrize(
    ("value", "kind", "built"),
    [
        ("2e-4", float, 2e-4),
        (1, float, 1.0),
        (-3, int, -3),
        ("3e2", int, 300),
        (2**63 + 1, int, 2**63 + 1),
        (0, Share, 0.0),
        ("1", Share, 1.0),
        (["a", "b"], list[str], ["a", "b"]),
        (None, str | None, None),
        ("", str | None, None),
        ("x", str | None, "x"),
        (False, bool, False),
        ("trl", Literal["trl", "unsloth"], "trl"),
        ("auto", Literal["auto"] | Count, "auto"),
        ("4k", Literal["auto"] | Count, 4000),
        ("auto", Literal["auto"] | bool, "auto"),
        (False, Literal["auto"] | bool, False),
    ],
)
def test_coercion(value, kind, built):
    coerced = coerce(value, kind, "x")
    assert coerced == built
    if built is not None and kind in (float, int, bool):
        assert type(coerced) is kind


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        (1.5, int, "a whole number"),
        (math.inf, int, "a finite number"),
        (math.nan, float, "a finite number"),
        (10**400, float, "a number"),
        (True, float, "a number"),
        (None, float, "a number"),
        ([1], float, "a number"),
        ("fast", float, "a number"),
        (1.01, Share, "from 0 to 1"),
        (-0.1, Share, "from 0 to 1"),
        ("no", bool, "true or false"),
        (1, bool, "true or false"),
        (1, str, "a text"),
        ("", str, "a text"),
        ("a", list[str], "a list"),
        ({"a": 1}, list[str], "a list"),
        ("trl", Inner, "a mapping"),
        ("TRL", Literal["trl", "unsloth"], "one of trl, unsloth"),
        (["trl"], Literal["trl", "unsloth"], "one of trl, unsloth"),
        ("Auto", Literal["auto"] | Count, "'Auto' is not a positive whole number such as"),
        ("Auto", Literal["auto"] | Count, "1.5M, nor auto."),
        (0, Literal["auto"] | Count, "nor auto"),
        (["auto"], Literal["auto"] | bool, "true or false, nor auto."),
    ],
)
def test_values_of_the_wrong_type(value, kind, wanted):
    with pytest.raises(UserError) as caught:
        coerce(value, kind, "train.x")
    message = str(caught.value)
    assert message.startswith("train.x: ") and wanted in message


def test_the_wrong_item_of_a_list_is_named():
    with pytest.raises(UserError, match=r"train\.names\[1\]: 3 is not a text"):
        coerce(["a", 3], list[str], "train.names")


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
    assert built == Outer(10_000, 0.0002, "trl", False, Inner(16, ["no", "on", "yes"]), None)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("  size: 10k\n", "", "train.size: missing."),
        ("size:", "sise:", "train.size: missing. Is 'sise' meant to be 'size'?"),
        ("rank:", "rnak:", "train.inner.rank: missing. Is 'rnak' meant to be 'rank'?"),
        ("10k", "10kk", "train.size: '10kk' is not"),
        ("rank: 16", "rank: 1.5", "train.inner.rank: 1.5 is not a whole number."),
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


def test_unread_params(tmp_path):
    pipeline = tmp_path / "dvc.yaml"
    pipeline.write_text("stages:\n  mix:\n    params:\n      - data.size\n      - data.lora.r\n  plot: {}\n")
    reject_unread({"data": {"size": 1, "lora": {"r": 2}}}, pipeline)
    with pytest.raises(UserError) as caught:
        reject_unread({"data": {"size": 1, "lora": {"r": 2}, "sise": 1}}, pipeline)
    message = str(caught.value)
    assert message.startswith("data.sise: no stage reads such a param.")
    assert message.endswith("The nearest is data.size.")


def test_the_project_s_own_params_are_all_read():
    params = load(ROOT / "params.yaml")
    reject_unread(params, ROOT / "dvc.yaml")
    assert "train.lora.target_modules" in set(leaves(params))


PROGRAM = """
from stages.cli import run
from sft.core.params import Count, section
from dataclasses import dataclass

@dataclass
class Data:
    size: Count

def main(values):
    print(section(values, "data", Data).size)
    {body}

run(main)
"""


def run_program(folder, params, body="pass"):
    written(folder, params)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_run_prints_one_line_and_no_traceback(tmp_path):
    good = run_program(tmp_path, "data:\n  size: 2k\n")
    assert (good.returncode, good.stdout, good.stderr) == (0, "2000\n", "")
    bad = run_program(tmp_path, "data:\n  size: 2kk\n")
    assert bad.returncode == 1 and bad.stdout == ""
    assert (
        bad.stderr.startswith("error: params.yaml: data.size: '2kk' is not") and bad.stderr.count("\n") == 1
    )
    broken = run_program(tmp_path, "data: [\n")
    assert broken.returncode == 1
    assert broken.stderr.startswith("error: params.yaml: not valid YAML") and "Traceback" not in broken.stderr


def test_run_on_a_full_disk(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    result = run_program(tmp_path, "data:\n  size: 2k\n", "open('/dev/full', 'w', buffering=1).write('x\\n')")
    assert result.returncode == 1
    assert "disk is full" in result.stderr and "Traceback" not in result.stderr


def test_run_out_of_the_gpu_s_memory(tmp_path):
    body = "raise type('OutOfMemoryError', (RuntimeError,), {{}})('Tried 9 GiB. GPU 0 has less')"
    result = run_program(tmp_path, "data:\n  size: 2k\n", body.format())
    assert result.returncode == 1
    assert result.stderr.startswith("error: the GPU is out of memory: Tried 9 GiB. Set train.micro_batch")
    assert "Traceback" not in result.stderr


def test_run_shows_the_traceback_of_our_own_faults(tmp_path):
    result = run_program(tmp_path, "data:\n  size: 2k\n", "raise ZeroDivisionError")
    assert result.returncode == 1 and "Traceback" in result.stderr


def test_a_param_that_no_stage_reads_stops_every_stage(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages:\n  mix:\n    params:\n      - data.size\n")
    result = run_program(tmp_path, "data:\n  size: 2k\n  sise: 3k\n")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: params.yaml: data.sise: no stage reads such a param")
