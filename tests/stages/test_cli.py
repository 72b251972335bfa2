"""Running a stage: params that no stage reads, and faults as one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from sft.core.errors import UserError
from sft.core.params import (
    leaves,
    load,
)
from stages.cli import reject_unread
from tests.imports import ROOT


def test_unread_params(tmp_path):
    pipeline = tmp_path / "dvc.yaml"
    pipeline.write_text("stages:\n  mix:\n    params:\n      - data.size\n      - data.lora.r\n  plot: {}\n")
    reject_unread({"data": {"size": 1, "lora": {"r": 2}}}, pipeline)
    with pytest.raises(UserError) as caught:
        reject_unread({"data": {"size": 1, "lora": {"r": 2}, "sise": 1}}, pipeline)
    message = str(caught.value)
    assert message.startswith("data.sise: no stage reads such a param.")
    assert message.endswith("The nearest is data.size.")


def test_params_of_a_listed_group(tmp_path):
    """Of tasks dvc.yaml lists the group: its names are the user's. Of all others it lists leaves."""
    pipeline = tmp_path / "dvc.yaml"
    pipeline.write_text("stages:\n  mix:\n    params:\n      - tasks\n      - data\n")
    reject_unread({"tasks": {"recipe": {"examples": "a", "metrics": ["b"]}}}, pipeline)
    with pytest.raises(UserError, match=r"^data\.size: no stage reads such a param"):
        reject_unread({"data": {"size": 1}}, pipeline)
    with pytest.raises(UserError, match=r"^task\.recipe: no stage reads such a param"):
        reject_unread({"task": {"recipe": 1}}, pipeline)
    pipeline.write_text("stages:\n  mix:\n    params:\n      - data.size\n")
    with pytest.raises(UserError, match=r"^tasks\.recipe: no stage reads such a param"):
        reject_unread({"tasks": {"recipe": 1}}, pipeline)


def test_the_project_s_own_params_are_all_read():
    params = load(ROOT / "params.yaml")
    reject_unread(params, ROOT / "dvc.yaml")
    assert "train.lora.target_modules" in set(leaves(params))


PROGRAM = """
from stages.cli import run
from sft.core.params import Count, Params, section

class Data(Params):
    size: Count

def main(values):
    print(section(values, "data", Data).size)
    {body}

run(main)
"""


def run_program(folder, params, body="pass"):
    (folder / "params.yaml").write_text(params, encoding="utf-8")
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
