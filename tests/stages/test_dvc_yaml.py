"""dvc.yaml, params.yaml and presets/ against the code: what a stage reads and imports is what it lists."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts import harness_scores, preset
from sft.core.params import Params, leaves, load, mapping, section
from sft.fetch import uri
from sft.tasks.task import TaskParams, tasks_of
from stages import paths, plot
from stages.cli import GROUPS, reject_unread
from tests.imports import ROOT, closure
from tests.pipeline_repo import CHECK, STAGES

PIPELINE = load(ROOT / "dvc.yaml")["stages"]
PARAMS = load(ROOT / "params.yaml")
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


def module_name(stage: str) -> str:
    (name,) = re.findall(r"^python -m (stages\.\w+)", PIPELINE[stage]["cmd"])
    return name


def schemas(stage: str, function: str = "section") -> Iterator[tuple[str, type[Params]]]:
    """Yield each part of params that a stage's script reads, with its schema: the calls of `function`."""
    module = importlib.import_module(module_name(stage))
    for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            _, name, schema = node.args
            assert isinstance(name, ast.Constant)
            value: Any = module
            for part in ast.unparse(schema).split("."):
                value = getattr(value, part)
            yield str(name.value), value


def fields(schema: type[Params], prefix: str) -> Iterator[str]:
    for name, field in schema.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Params):
            yield from fields(field.annotation, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}"


def keys(value: Any) -> Iterator[str]:
    """Yield the keys of mappings at any depth."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        yield from keys(item)


def at(name: str) -> Any:
    """Return the value in params.yaml of a param, or a group, by its dotted name."""
    value: Any = PARAMS
    for part in name.split("."):
        value = value[part]
    return value


def test_the_stages() -> None:
    assert tuple(PIPELINE) == (CHECK, *STAGES)


def test_what_check_reads_the_other_stages_read_and_all_of_them_wait_for_it() -> None:
    """So a fault in any param stops the pipeline before DVC deletes an output."""
    (output,) = PIPELINE[CHECK]["outs"]
    read: set[str] = set()
    for stage in STAGES:
        read |= set(PIPELINE[stage]["params"])
        assert output in PIPELINE[stage]["deps"]
    assert set(PIPELINE[CHECK]["params"]) == read
    assert not [dep for dep in PIPELINE[CHECK]["deps"] if dep in written() or dep == paths.RAW]


@pytest.mark.parametrize("stage", PIPELINE)
def test_params_are_leaves(stage: str) -> None:
    """DVC's run cache ignores the keys size and nfiles inside a group or a list of mappings.

    The exception is a group whose names the user chooses, so that dvc.yaml cannot list its leaves: there
    these keys are refused.
    """
    known = set(leaves(PARAMS))
    for entry in PIPELINE[stage]["params"]:
        assert isinstance(entry, str), f"{entry}: params of another file"
        if entry in GROUPS:
            read = {name for name, _ in schemas(stage, "mapping")}
            read |= {leaf for name, schema in schemas(stage) for leaf in fields(schema, name)}
            assert entry in read
            assert not {"size", "nfiles"} & set(keys(at(entry)))
            continue
        assert entry in known, f"{entry}: a group, or no param"
        value = at(entry)
        assert not (isinstance(value, list) and any(isinstance(item, dict) for item in value)), entry


@pytest.mark.parametrize("stage", PIPELINE)
def test_params_are_those_that_the_script_reads(stage: str) -> None:
    read = [leaf for name, schema in schemas(stage) for leaf in fields(schema, name)]
    read += [name for name, _ in schemas(stage, "mapping")]
    assert sorted(PIPELINE[stage]["params"]) == sorted(set(read))


def test_every_param_is_read_by_a_stage() -> None:
    reject_unread(PARAMS, ROOT / "dvc.yaml")
    listed = {param for stage in PIPELINE.values() for param in stage["params"]}
    in_groups = {leaf for leaf in leaves(PARAMS) if leaf.startswith(tuple(f"{group}." for group in GROUPS))}
    assert set(leaves(PARAMS)) - in_groups == listed - set(GROUPS)


@pytest.mark.parametrize("stage", PIPELINE)
def test_deps_are_the_rooms_and_scripts_that_the_stage_imports_from(stage: str) -> None:
    script = ROOT.joinpath(*module_name(stage).split(".")).with_suffix(".py")
    code = {dep for dep in PIPELINE[stage]["deps"] if dep.startswith(("sft", "stages"))}
    assert code == {room(path) for path in closure(script)}


def test_evaluate_depends_on_what_baseline_does_and_on_what_the_adapter_adds() -> None:
    baseline, evaluate = (PIPELINE[name]["deps"] for name in ("baseline", "evaluate"))
    assert set(evaluate) - set(baseline) == {"models/adapter", "scores/baseline.csv"}
    assert [dep for dep in evaluate if dep in baseline] == baseline


def test_what_describes_a_run_is_read_by_card_only_on_which_nothing_depends() -> None:
    """Its seconds differ from run to run, and would make whatever follows run again."""
    listed = [path for path in written() if path.startswith("provenance/")]
    assert {"provenance/baseline.json", "provenance/evaluate.json"} <= set(listed)
    read = {
        name: [dep for dep in stage["deps"] if dep.startswith("provenance")]
        for name, stage in PIPELINE.items()
    }
    assert [name for name, deps in read.items() if deps] == ["card"]
    assert not [name for name, stage in PIPELINE.items() if paths.CARD in stage["deps"]]


def test_every_stage_is_described() -> None:
    assert all(stage["desc"].endswith(".") for stage in PIPELINE.values())


def test_a_new_task_trains_nothing_anew() -> None:
    reading = {name for name, stage in PIPELINE.items() if "tasks" in stage["params"]}
    assert reading == {CHECK, "standardize", "baseline", "evaluate", "card"}
    assert "sft/tasks" not in PIPELINE["train"]["deps"] + PIPELINE["mix"]["deps"]


def room(path: str) -> str:
    """Return what a stage lists for a module: its room in the library, else the file itself."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "sft" else path


def test_the_packages_that_decide_results_are_a_dep_of_the_stages_that_run_the_model() -> None:
    with_packages = {name for name, stage in PIPELINE.items() if "requirements-model.txt" in stage["deps"]}
    assert with_packages == {"train", "baseline", "evaluate"}


def written() -> set[str]:
    """Return the paths of all that the stages write."""
    outs = [
        out
        for stage in PIPELINE.values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
    ]
    return {out if isinstance(out, str) else next(iter(out)) for out in outs}


def constants(module: ModuleType) -> list[str]:
    """Return the texts that a module names in capitals."""
    return [value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)]


def test_the_paths_are_those_of_the_outs_and_of_the_users_own_files() -> None:
    named = [path for module in (paths, plot) for path in constants(module)]
    assert len(named) == len(set(named)) and set(named) == written() | {paths.RAW}


def test_what_git_keeps_of_the_results_the_stages_write() -> None:
    """A file that no stage writes any more would stand beside the others and never change."""
    folders = ("metrics", "plots", "provenance", "scores", paths.CARD)
    listed = subprocess.run(
        ["git", "ls-files", "--", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not set(listed.stdout.splitlines()) - written() - set(harness_scores.KEPT)


def test_what_a_stage_reads_another_writes() -> None:
    for name, stage in PIPELINE.items():
        for dep in stage["deps"]:
            assert dep in written() or (ROOT / dep).exists(), f"{name}: {dep}"


@pytest.mark.parametrize("name", [None, *PRESETS])
def test_params_and_presets_are_valid(name: str | None, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    comments = re.findall(r"^ *# .*", path.read_text(), re.MULTILINE)
    if name:
        assert preset.apply(name, path, ROOT / "presets")
        assert preset.apply(name, path, ROOT / "presets") == []
        assert re.findall(r"^ *# .*", path.read_text(), re.MULTILINE) == comments
    values = load(path)
    reject_unread(values, ROOT / "dvc.yaml")
    for stage in PIPELINE:
        for part, schema in schemas(stage):
            section(values, part, schema)
        for part, schema in schemas(stage, "mapping"):
            mapping(values, part, schema)
    of_tasks = [task.source for task in tasks_of(mapping(values, "tasks", TaskParams))]
    for address in (*values["data"]["base"], *values["data"]["extra"], *of_tasks):
        assert uri.parse(address).scheme in ("dataset", "pypi")
    assert uri.parse(values["model"]["reference"]).scheme in ("model", "pypi")


def test_setting_a_param_by_dvc_changes_its_line_only(tmp_path: Path) -> None:
    """DVC dumps the file anew: it indents lists its way and drops the comment that follows a list."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, ["train.budget=61 steps", "data.weights.recipes=4", "data.weights.dish-names=0.5"])
    before = (ROOT / "params.yaml").read_text().splitlines()
    changed = {"  budget: ": "61 steps", "    recipes: ": "4", "    dish-names: ": "0.5"}
    begin = tuple(changed)
    assert path.read_text().splitlines() == [
        f"{line[: line.index(': ') + 2]}{changed[line[: line.index(': ') + 2]]}"
        if line.startswith(begin)
        else line
        for line in before
    ]
    apply_overrides(path, ["data.weights=proportional"])
    assert load(path)["data"]["weights"] == "proportional"
    comments = [line for line in before if line.lstrip().startswith("#")]
    assert [line for line in path.read_text().splitlines() if line.lstrip().startswith("#")] == comments


@pytest.mark.parametrize(
    "module", ["stages.check", "stages.standardize", "stages.mix", "stages.card", "scripts.preset"]
)
def test_light_scripts_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = "torch transformers tokenizers trl peft datasets huggingface_hub pandas matplotlib dvc"
    heavy += " rensa py3langid"
    assert "sft" in loaded and not set(heavy.split()) & set(loaded)
