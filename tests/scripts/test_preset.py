"""Presets: values go in, comments stay, and what a preset names wrongly changes nothing."""

import subprocess
import sys

import pytest

from scripts.preset import apply
from sft.core.errors import UserError
from sft.core.params import load
from tests.imports import ROOT

PARAMS = """# Every knob.

model:
  # Where it comes from.
  reference: here  # pinned
data:
  size: 100k
  base:
  - one
  # the second
  - two

  # The seed of the ranks.
  seed: 42
train:
  learning_rate: 2e-4
  note: "quoted"
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "presets").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    return tmp_path


def preset(project, text, name="mine"):
    (project / "presets" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return apply(name, project / "params.yaml", project / "presets")


def test_values_change_and_comments_stay(project):
    changes = preset(project, "data:\n  size: 300k\nmodel:\n  reference: gone\n")
    assert changes == ["data.size: 100k -> 300k", "model.reference: here -> gone"]
    expected = PARAMS.replace("100k", "300k").replace("here  #", "gone  #")
    assert (project / "params.yaml").read_text() == expected


def test_a_list_is_replaced(project):
    assert preset(project, "data:\n  base:\n    - three\n") == ["data.base: [one, two] -> [three]"]
    expected = PARAMS.replace("  - one\n  # the second\n  - two\n", "  - three\n")
    assert (project / "params.yaml").read_text() == expected


@pytest.mark.parametrize("items", [1, 2, 3])
def test_lists_of_any_length(project, items):
    preset(project, "data:\n  base:\n" + "".join(f"    - item {n}\n" for n in range(items)))
    assert load(project / "params.yaml")["data"] == {
        "size": "100k",
        "base": [f"item {n}" for n in range(items)],
        "seed": 42,
    }
    assert (project / "params.yaml").read_text().count("  # The seed of the ranks.\n  seed: 42\n") == 1


WEIGHTS = """data:
  size: 100k
  # How often.
  weights:
    recipes: 3
    words: 1
  seed: 42
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data:\n  weights:\n    recipes: 5\n", "recipes 5"),
        ("data:\n  weights: proportional\n", "proportional"),
    ],
)
def test_weights_are_replaced_whole(project, text, said):
    """The names in them are of the sources: those that a preset does not name have no rows then."""
    (project / "params.yaml").write_text(WEIGHTS)
    assert preset(project, text) == [f"data.weights: recipes 3, words 1 -> {said}"]
    assert preset(project, text) == []
    weights = load(project / "params.yaml")["data"]["weights"]
    assert weights == ({"recipes": 5} if said == "recipes 5" else "proportional")
    assert "  # How often.\n  weights:" in (project / "params.yaml").read_text()
    preset(project, "data:\n  weights:\n    recipes: 3\n    words: 1\n")
    assert (project / "params.yaml").read_text() == WEIGHTS


def test_a_list_is_emptied(project):
    assert preset(project, "data:\n  base: []\n") == ["data.base: [one, two] -> []"]
    assert load(project / "params.yaml")["data"] == {"size": "100k", "base": [], "seed": 42}


def test_applying_twice_changes_nothing(project):
    text = "data:\n  size: 300k\n  base:\n    - three\n    - four\ntrain:\n  learning_rate: 1e-3\n"
    assert len(preset(project, text)) == 3
    once = (project / "params.yaml").read_bytes()
    assert preset(project, text) == []
    assert (project / "params.yaml").read_bytes() == once


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("data:\n  sise: 300k\n", "data.sise"),
        ("data:\n  size: 300k\nplot:\n  dpi: 1\n", "plot"),
        ("data:\n  size:\n    rows: 1\n", "data.size"),
    ],
)
def test_a_param_that_there_is_not(project, text, named):
    with pytest.raises(UserError) as caught:
        preset(project, text)
    assert named in str(caught.value) and "mine.yaml" in str(caught.value)
    assert (project / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:\n  seed:\n    rows: 1\n", "data.seed: one param, not a group"),
        ("data:\n  size:\n    k: 1\n", "data.size: one param, not a group"),
        ("data:\n  base:\n    k: 1\n", "data.base: one param, not a group"),
        ("model:\n  reference: gone\ntrain:\n", "train: a group of params (learning_rate, note). Indent"),
        ("train: fast\n", "train: a group of params"),
        ("train: []\n", "train: a group of params"),
    ],
)
def test_a_group_for_a_value_and_a_value_for_a_group(project, text, message):
    with pytest.raises(UserError) as caught:
        preset(project, text)
    assert f"mine.yaml: {message}" in str(caught.value)
    assert (project / "params.yaml").read_text() == PARAMS


def test_a_preset_that_there_is_not(project):
    preset(project, "data:\n  seed: 1\n", "large")
    with pytest.raises(UserError, match=r"no such preset\. There are: large\."):
        apply("lagre", project / "params.yaml", project / "presets")


@pytest.mark.parametrize("text", ["data: [1\n", "- 1\n", ""])
def test_a_preset_that_is_no_params(project, text):
    with pytest.raises(UserError, match=r"mine\.yaml"):
        preset(project, text)
    assert (project / "params.yaml").read_text() == PARAMS


def test_the_project_s_params_survive_a_round_trip(tmp_path):
    """Their form is the one that is written, so a preset's diff shows what it changes and no more."""
    before = (ROOT / "params.yaml").read_bytes()
    (tmp_path / "params.yaml").write_bytes(before)
    (tmp_path / "same.yaml").write_text(f"data:\n  seed: {load(ROOT / 'params.yaml')['data']['seed']}\n")
    assert apply("same", tmp_path / "params.yaml", tmp_path) == []
    assert (tmp_path / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "presets").glob("*.yaml")))
def test_the_project_s_presets(tmp_path, name):
    """Each fits params.yaml, keeps all its comments, and every stage takes its values."""
    from sft.core.params import section
    from sft.evaluation.evaluate import EvaluateParams
    from sft.mixing.mix import MixParams
    from sft.modeling.loading import ModelParams
    from sft.training.mixture import MixtureParams
    from sft.training.train_params import TrainParams
    from stages.standardize import StandardizeParams

    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    assert apply(name, path, ROOT / "presets")
    values = load(path)
    for part, schema in (
        ("model", ModelParams),
        ("data", MixParams),
        ("data", StandardizeParams),
        ("data", MixtureParams),
        ("train", TrainParams),
        ("evaluate", EvaluateParams),
    ):
        section(values, part, schema)
    comments = [line.strip() for line in (ROOT / "params.yaml").read_text().splitlines() if "#" in line]
    comments = [line[line.index("# ") :] for line in comments if "# " in line]
    text = path.read_text()
    assert comments and all(comment in text for comment in comments)


@pytest.mark.parametrize("name", ["quick", "thorough", "llama-3.2-3b"])
@pytest.mark.parametrize("before", ["quick", "thorough"])
def test_what_a_preset_is_does_not_depend_on_the_one_before(tmp_path, before, name):
    """But for the weights, which depend on the data: `quick` leaves them as they are."""
    made = []
    for presets in ([name], [before, name]):
        path = tmp_path / "params.yaml"
        path.write_bytes((ROOT / "params.yaml").read_bytes())
        for preset_name in presets:
            apply(preset_name, path, ROOT / "presets")
        made.append({key: value for key, value in load(path).items() if key != "data"})
    assert made[0] == made[1]


def test_the_command(project):
    command = [sys.executable, "-m", "scripts.preset"]
    where = {"cwd": project, "env": {"PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    (project / "presets" / "mine.yaml").write_text("data:\n  size: 7k\n")
    first, second = (subprocess.run([*command, "mine"], **where) for _ in range(2))
    assert (first.returncode, first.stdout) == (0, "data.size: 100k -> 7k\n")
    assert (second.returncode, second.stdout) == (0, "params.yaml has these values already\n")
    unknown = subprocess.run([*command, "yours"], **where)
    assert unknown.returncode == 1 and unknown.stderr.startswith("error: presets/yours.yaml: no such preset")
    assert subprocess.run(command, **where).stderr == "usage: python -m scripts.preset NAME\n"
