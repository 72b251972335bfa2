"""A user's own file under data/raw/, through real DVC."""

import json
from pathlib import Path

import pytest

from scripts.dvc_gate import freshness
from sft.core.params import load
from stages.paths import RAW
from tests.pipeline_repo import Repo, ran

MINE = "data/raw/mine.jsonl"


def write(repo: Repo, rows: int) -> None:
    lines = [{"prompt": f"My question {n}?", "completion": f"My answer {n}."} for n in range(rows)]
    (repo.path / MINE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def mine(repo: Repo) -> Repo:
    """Track a file of 30 rows and name it in data.base; nothing has run with it."""
    write(repo, 30)
    repo.dvc_here("add", MINE)
    base = repo.json("provenance/standardize.json")["sources"].keys()
    repo.set_params({"data.base": [MINE, *(uri for uri in base if uri.partition("#")[2] in ("", "english"))]})
    repo.commit("my data")
    return repo


def test_a_tracked_file_is_found_in_a_temporary_run(mine: Repo) -> None:
    output = mine.dvc_here("exp", "run", "--temp", "--name", "with-mine", "mix")
    assert ran(output) == ["standardize", "mix"]
    standardized, mixed = (
        json.loads(mine.git("show", f"{mine.experiment('with-mine')}:provenance/{stage}.json"))
        for stage in ("standardize", "mix")
    )
    assert standardized["sources"][MINE]["rows"] == 30
    assert mixed["sources"][MINE] == mixed["kinds"]["mine"] > 0


def test_a_changed_file_runs_standardize(mine: Repo) -> None:
    mine.dvc_here("repro", "mix")
    assert not mine.changed_stages() & {"standardize", "mix"}
    write(mine, 40)
    assert "standardize" in mine.changed_stages()
    mine.dvc_here("add", MINE)
    assert ran(mine.dvc_here("repro", "mix")) == ["standardize", "mix"]
    assert mine.json("provenance/standardize.json")["sources"][MINE]["rows"] == 40


def test_a_small_file_alone_is_trained_on(repo: Repo) -> None:
    """Of 1,000 rows the default's share holds out some three, fewer than the validation rows asked for."""
    write(repo, 1000)
    repo.set_params(
        {
            "data.base": [MINE],
            "data.extra": [],
            "data.weights": "proportional",
            "data.holdout.validation": 0.003,
            "train.validation_rows": 64,
        }
    )
    output = repo.dvc_here("repro", "train")
    assert ran(output) == ["standardize", "mix", "train"]
    held_out = repo.json("provenance/standardize.json")["validation"]["mine"]
    assert 0 < held_out < 64 and repo.json("provenance/train.json")["validation_rows"] == held_out
    assert f"on {held_out} rows, not the 64 of train.validation_rows" in output


def test_weights_on_the_command_line(repo: Repo) -> None:
    """The ways that docs/data.md names; DVC merges a mapping into another, but not into a text."""

    def weights(*changes: str) -> dict[str, int]:
        repo.git("checkout", "params.yaml")
        repo.dvc_here("exp", "run", *(word for change in changes for word in ("-S", change)), "mix")
        return load(repo.path / "params.yaml")["data"]["weights"]

    before = load(repo.path / "params.yaml")["data"]["weights"]
    del before["words"]
    changed = weights("data.weights.recipes=4", "+data.weights.my=1", "~data.weights.words")
    assert changed == before | {"recipes": 4, "my": 1}
    whole = weights("data.weights=proportional", "data.weights={my: 2, FineTome-100k: 1}")
    assert whole == {"my": 2, "FineTome-100k": 1}


def test_a_clone_pulls_the_file_and_runs_nothing(mine: Repo, tmp_path: Path) -> None:
    mine.dvc_here("repro", "mix")
    mine.dvc_here("remote", "add", "--default", "store", str(tmp_path / "store"))
    mine.dvc_here("push")
    mine.commit("run")
    clone = mine.clone(tmp_path / "clone")
    clone.dvc_here("pull", "--allow-missing")
    assert (clone.path / MINE).read_bytes() == (mine.path / MINE).read_bytes()
    assert ran(clone.dvc_here("repro", "mix")) == []


def test_the_gate_where_the_file_is_absent_does_not_take_it_for_changed(mine: Repo, tmp_path: Path) -> None:
    mine.dvc_here("repro", "mix")
    mine.commit("run up to the mix")
    in_clone = freshness(mine.clone(tmp_path / "clone").path)
    assert in_clone.unchecked == []
    assert in_clone.behind.keys() == {"train", "plot", "card"} and "data/mix" in in_clone.behind["train"]
    here = freshness(mine.path)
    assert here.unchecked == [] and here.behind.keys() == {"train", "plot", "card"}
    write(mine, 40)
    assert RAW in freshness(mine.path).behind["standardize"]


def test_the_gate_where_a_file_is_absent_sees_what_changed_in_data_raw(mine: Repo, tmp_path: Path) -> None:
    (mine.path / "data/raw/small.jsonl").write_text('{"prompt": "kept in Git", "completion": "too"}\n')
    mine.dvc_here("repro", "standardize")
    mine.commit("run")
    mine.git("tag", "run")
    for branch in ("another-file", "file-of-git", "new-file", "unchanged"):
        mine.git("switch", "--quiet", "--create", branch, "run")
        if branch == "another-file":  # tracked, and standardize has not run
            write(mine, 40)
            mine.dvc_here("add", MINE)
        elif branch != "unchanged":
            name = "small" if branch == "file-of-git" else "new"
            (mine.path / f"data/raw/{name}.jsonl").write_text("{}\n")
        # Another stage's run changes the lock too, which says nothing of data/raw.
        (mine.path / "dvc.lock").write_text((mine.path / "dvc.lock").read_text() + "# later\n")
        mine.commit(branch)
        clone = tmp_path / branch
        mine.git("clone", "--quiet", "--depth", "1", f"file://{mine.path}", str(clone))
        found = freshness(clone)
        assert not (clone / MINE).exists() and found.unchecked == []
        assert (RAW in found.behind.get("standardize", [])) == (branch != "unchanged"), branch


def test_the_gate_where_a_folder_is_absent(repo: Repo, tmp_path: Path) -> None:
    many = repo.path / "data/raw/many"
    many.mkdir()
    (many / "1.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    repo.dvc_here("add", "data/raw/many")
    repo.dvc_here("repro", "standardize")
    repo.commit("run")
    repo.set_params({"plot.dpi": 50})
    repo.commit("later")
    fine = freshness(repo.clone(tmp_path / "fine").path)
    assert RAW not in fine.behind.get("standardize", []) and fine.unchecked == []
    (many / "2.jsonl").write_text('{"prompt": "c", "completion": "d"}\n')
    repo.dvc_here("add", "data/raw/many")
    repo.commit("more rows, and no run")
    assert RAW in freshness(repo.clone(tmp_path / "stale").path).behind["standardize"]
    # Without history nothing tells; the report says that.
    shallow = tmp_path / "shallow"
    repo.git("clone", "--quiet", "--depth", "1", f"file://{repo.path}", str(shallow))
    assert freshness(shallow).unchecked == ["data/raw/many"]


def test_a_missing_file_is_named(mine: Repo) -> None:
    (mine.path / MINE).unlink()
    result = mine.run("python", "-m", "stages.standardize", ok=False)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert f"error: {MINE}: no such file" in result.stderr and "dvc pull" in result.stderr
