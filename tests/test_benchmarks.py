"""The benchmarks measure what they say: their material, and params that the stages take."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import default_values, devices_speed
from benchmarks.material import SMOLLM2, conversations, llama_tokenizer, turns, workspace
from benchmarks.train_speed import stage_params
from sft.core.files import write_parquet
from sft.core.params import load, section
from sft.core.row_schema import HOLDOUT_ONLY, standard_table
from sft.modeling.chat_template import encode, end_of_turn
from sft.modeling.loading import ModelParams, load_tokenizer, resolve
from sft.training.mixture import MixtureParams
from sft.training.train_params import TrainParams
from stages import paths
from stages.train import read_mix
from tests.imports import ROOT
from tests.tiny import save_shards


def test_conversations_are_as_long_as_said():
    tokenizer = load_tokenizer(resolve(SMOLLM2))
    made = conversations(tokenizer, 300)
    lengths = np.array([len(encode(tokenizer, messages).input_ids) for messages in made])
    assert abs(lengths.mean() - 682) < 7
    assert lengths.max() < 2060 and np.percentile(lengths, 10) < 300
    assert conversations(tokenizer, 300) == made != conversations(tokenizer, 300, seed=1)


def test_the_llama_tokenizer():
    tokenizer = llama_tokenizer()
    assert len(tokenizer) == 128256
    ids = encode(tokenizer, turns("a", "b")).input_ids
    assert ids[0] == 128000 and ids.count(128009) == 2
    assert end_of_turn(tokenizer) == 128009


def test_the_stages_take_the_params():
    params = stage_params(SMOLLM2, "unsloth", True, 8, True, 40)
    assert section(params, "train", TrainParams).micro_batch == "auto"
    assert section(params, "model", ModelParams).load_in_4bit
    assert section(params, "data", MixtureParams).weights == "proportional"


def test_the_train_stage_reads_their_mix(tmp_path, monkeypatch):
    monkeypatch.chdir(workspace(tmp_path / "workspace", SMOLLM2))
    assert read_mix(MixtureParams(weights="proportional")).in_mix == {"benchmark": 2000}


def test_one_device_against_several(tmp_path, monkeypatch, capsys):
    """Equal work on each device is compared for speed, the same steps for their losses."""
    ran = []

    def train(folder, reference, engine, four_bit, rows, same_order, steps, devices):
        ran.append((rows, devices))
        losses = {(24, 1): [5.0, 4.0], (48, 1): [3.0, 2.0], (48, 2): [3.0, 2.0 + 2**-10]}[rows, devices]
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        lines = ["step,loss", *(f"{step},{loss}" for step, loss in enumerate(losses, 1))]
        (folder / paths.TRAIN_LOSS).write_text("\n".join(lines))
        return {"": {"tokens_per_second": {(24, 1): 100.0, (48, 1): 104.0, (48, 2): 195.0}[rows, devices]}}

    def evaluate(folder, reference, size, devices, examples, new_tokens):
        said = ["a", "b", "c", "d" if devices == 1 else "e"]
        records = [{"run": 0, "prediction": text} for text in said] + [{"run": None}]
        (folder / "data/answers").mkdir(parents=True, exist_ok=True)
        (folder / paths.BASELINE_ANSWERS).write_text("\n".join(map(json.dumps, records)))
        return {"tokens_per_second": 50.0 * devices}

    monkeypatch.setattr(devices_speed, "workspace", lambda folder, _: folder)
    monkeypatch.setattr(devices_speed.train_speed, "stage", train)
    monkeypatch.setattr(devices_speed.generate_speed, "prepare", lambda *_: None)
    monkeypatch.setattr(devices_speed.generate_speed, "stage", evaluate)
    monkeypatch.setattr(devices_speed, "llama_3b", lambda folder: folder)
    monkeypatch.setitem(devices_speed.SIZES, "llama", devices_speed.Size((24,), 2, 4, 8))
    monkeypatch.setattr("sys.argv", ["devices_speed", "llama", "--work", str(tmp_path)])
    for _ in range(2):  # what has a result is not run again
        devices_speed.main()
        assert ran == [(24, 1), (48, 2), (48, 1)]
        printed = capsys.readouterr().out.splitlines()
        assert printed[2] == "| 24 rows a device | 100 | 195 | 1.95 | 9.8e-04 |"
        assert printed[-1] == "| 4 prompts | 50 | 100 | 2.00 | 75.0% |"


TASKS = ("recipe", "definition", "dialogue", "question")
PATTERN = "even 0.0005 [48]x"
NAMES = ["even_0.0005_4x_100k_seed42", "even_0.0005_8x_100k_seed42"]


@pytest.fixture
def candidates(tmp_path, monkeypatch):
    """Stand in an empty repository with validation rows, where a stage writes metrics alone.

    Return the folders in which a stage ran. A stage of a batch size of 8 fails.
    """
    conversations = [
        [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "a"}] for n in range(8)
    ]
    rows = standard_table(pa.array(conversations), "x", tasks=[TASKS[n % 4] for n in range(8)])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    rows = rows.drop_columns(HOLDOUT_ONLY)
    save_shards(paths.MIX, rows)
    write_parquet(paths.VALIDATION, rows)
    ran = []

    def stand_in(command, cwd, **_):
        ran.append(cwd.name)
        if cwd.name != "base" and load(cwd / "params.yaml")["train"]["batch_size"] == 8:
            raise subprocess.CalledProcessError(1, command)
        scores = {task: {"bits_per_byte": 1.2346, "rouge1": 0.2, "format": 0.5} for task in TASKS}
        (cwd / paths.SCORES_BASELINE).write_text("")
        for path in (paths.METRICS_BASELINE, paths.METRICS_EVALUATE):
            (cwd / path).write_text(json.dumps({"average": {}, **scores}))

    monkeypatch.setattr(default_values.subprocess, "run", stand_in)
    return ran


def test_a_candidate_of_the_default_that_fails(candidates, capsys):
    assert default_values.main(["out", "--only", PATTERN]) == 1
    printed = capsys.readouterr()
    assert "even 0.0005 8x 100k seed42: Command" in printed.err
    head, line, *rows = [row.strip("| ").split(" | ") for row in printed.out.splitlines()]
    assert head[:2] == ["run", "bits per byte, recipe"] and head[-1] == "recipe format, recipe"
    assert set(line) == {"---"} and {len(row) for row in (head, line, *rows)} == {10}
    assert [row[0] for row in rows] == ["base model", "even 0.0005 4x 100k seed42"]
    assert rows[1][1] == "1.235" and rows[1][-1] == "50%"


def test_a_candidate_is_kept_only_with_the_same_params(candidates, capsys):
    assert default_values.main(["out", "--only", PATTERN]) == 1
    candidates.clear()
    assert default_values.main(["out", "--only", PATTERN]) == 1
    assert candidates == [NAMES[1]]  # which failed
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("  warmup_steps: ", "  warmup_steps: 1"))
    candidates.clear()
    assert default_values.main(["out", "--only", "even 0.0005 4x"]) == 0
    assert set(candidates) == {"base", NAMES[0]}


def test_a_pattern_of_no_candidate(candidates, capsys):
    with pytest.raises(SystemExit) as ended:
        default_values.main(["out", "--only", "evn"])
    assert ended.value.code == 2 and "--only 'evn' is in no candidate's name" in capsys.readouterr().err
