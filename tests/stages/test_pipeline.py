"""The pipeline through real DVC, on small data with a tiny model: what runs when, and that it repeats."""

import re
from pathlib import Path

import pytest

from sft.core import shards
from tests.pipeline_repo import STAGES, Repo, from_cache, ran

AFTER_SIZE = ["mix", "train", "evaluate", "plot"]
# It takes a second, and is in no run cache: what it writes is in Git, and neither a metric nor a plot.
CARD = ["card"]


def mix_ids(repo: Repo) -> list[str]:
    """Return the ids of the mix's rows by their ranks."""
    return shards.read(repo.path / "data/mix", ["id", "rank"]).sort_by("rank")["id"].to_pylist()


@pytest.mark.long
def test_sizes_to_and_fro(repo: Repo) -> None:
    """DVC's run cache must not hand back the mix of another size."""
    small = mix_ids(repo)
    assert len(small) == 100
    assert sorted(ran(repo.dvc_here("exp", "run", "--set-param", "data.size=300"))) == sorted(
        AFTER_SIZE + CARD
    )
    large, large_lock = mix_ids(repo), repo.lock()
    assert len(set(large)) == 300 and large[:100] == small
    rows = repo.dvc("metrics", "diff", "--json")  # which DVC prints past what is captured here
    assert '"rows": {"old": 100, "new": 300, "diff": 200}' in rows

    output = repo.dvc_here("exp", "run", "--set-param", "data.size=100")
    assert (ran(output), from_cache(output)) == (CARD, AFTER_SIZE)
    assert mix_ids(repo) == small and repo.json("metrics/mix.json")["rows"] == 100
    output = repo.dvc_here("exp", "run", "--set-param", "data.size=300")
    assert (ran(output), from_cache(output)) == (CARD, AFTER_SIZE)
    assert mix_ids(repo) == large and repo.lock() == large_lock

    output = repo.dvc_here("exp", "run", "--set-param", "data.size=0.3k")
    assert (ran(output), mix_ids(repo)) == (["mix"], large)  # the same rows, so nothing follows

    repo.dvc_here("exp", "run", "--set-param", "data.size=100")
    repo.dvc_here("exp", "run", "--temp", "--name", "elsewhere", "--set-param", "data.size=300")
    assert repo.lock(repo.experiment("elsewhere")) == large_lock and mix_ids(repo) == small


def test_a_size_never_made_before_is_made_in_a_temporary_run(repo: Repo) -> None:
    repo.dvc_here("exp", "run", "--temp", "--name", "elsewhere", "--set-param", "data.size=0.2k", "mix")
    assert '"rows": 200,' in repo.git("show", f"{repo.experiment('elsewhere')}:metrics/mix.json")
    repo.dvc_here("exp", "apply", "elsewhere")
    assert len(mix_ids(repo)) == 200 and "size: 0.2k" in (repo.path / "params.yaml").read_text()


def test_weights_to_and_fro(repo: Repo) -> None:
    """One weight, and all of them at once; what has run comes back from the run cache."""

    def kinds_read() -> set[str]:
        read = repo.json("provenance/train.json")["kinds"]
        return {kind for kind, counts in read.items() if counts["rows_seen"]}

    before = repo.lock()
    one = ("exp", "run", "--set-param", "data.weights.recipes=4000", "train")
    assert ran(repo.dvc_here(*one)) == ["train"]
    weighted, lock = kinds_read(), repo.lock()
    assert weighted == {"recipes"} and lock["train"]["models/adapter"] != before["train"]["models/adapter"]
    assert ran(repo.dvc_here("exp", "run", "--set-param", "data.weights=proportional", "train")) == ["train"]
    assert kinds_read() - {"recipes"}
    repo.git("checkout", "params.yaml")
    output = repo.dvc_here(*one)
    assert (ran(output), from_cache(output)) == ([], ["train"])
    assert kinds_read() == weighted and repo.lock() == lock


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"plot.dpi": 50}, {"plot"}),
        ({"data.weights.words": 7}, {"train"}),
        ({"data.filters.max_words": 30}, {"mix"}),
        ({"evaluate.temperature": 0.9}, {"baseline", "evaluate", "card"}),
        ({"card.license": "mit"}, {"card"}),
        ({"evaluate.likelihood_examples": 4}, {"baseline", "evaluate"}),
        ({"train.budget": "3 steps"}, {"train", "card"}),
    ],
)
def test_a_changed_param_concerns_the_stages_that_read_it(repo: Repo, change: dict, stages: set[str]) -> None:
    repo.set_params(change)
    assert repo.changed_stages() == stages


def test_a_changed_param_runs_what_depends_on_it(repo: Repo) -> None:
    before, stages = repo.lock(), {"baseline", "evaluate", "plot", "card"}
    assert set(ran(repo.dvc_here("exp", "run", "--set-param", "evaluate.temperature=0.9"))) == stages
    assert {name for name in STAGES if repo.lock()[name] != before[name]} == stages


def test_a_comment_or_nothing_changed_runs_nothing(repo: Repo) -> None:
    assert "up to date" in repo.dvc_here("repro")
    params = repo.path / "params.yaml"
    params.write_text("# A remark.\n" + params.read_text().replace("\ndata:\n", "\ndata:  # another\n"))
    output = repo.dvc_here("repro")
    assert ran(output) == [] and "up to date" in output


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("plotting/pipeline", {"plot"}),
        ("mixing/mix", {"standardize", "mix"}),  # standardize finds near-copies by this room's words
        ("data/holdout", {"standardize", "mix"}),  # mix counts contamination by a module of this room
        ("training/train", {"train"}),
        ("evaluation/evaluate", {"baseline", "evaluate"}),
        ("statistics/gains", {"baseline", "evaluate", "plot", "card"}),
        ("card/limits", {"card"}),
        ("modeling/chat_template", {"train", "baseline", "evaluate", "plot"}),
        ("core/params", set(STAGES)),
    ],
)
def test_a_changed_module_concerns_the_stages_that_import_it(
    repo: Repo, module: str, stages: set[str]
) -> None:
    add_comment(repo, module)
    assert repo.changed_stages() == stages


def test_a_changed_module_runs_its_stages_and_no_more_if_they_write_the_same(repo: Repo) -> None:
    add_comment(repo, "mixing/mix")
    assert ran(repo.dvc_here("repro")) == ["standardize", "mix"]


def add_comment(repo: Repo, module: str) -> None:
    with (repo.path / "sft" / f"{module}.py").open("a", encoding="utf-8") as file:
        file.write("# A remark.\n")


@pytest.mark.long
def test_a_run_from_scratch_elsewhere_gives_the_same(built: Repo, tmp_path: Path) -> None:
    other = built.clone(tmp_path / "another" / "place")
    other.extra_env = {"PYTHONHASHSEED": "7", "SFT_CACHE": str(tmp_path / "downloads")}
    (other.path / "dvc.lock").unlink()
    for folder in ("metrics", "plots", "scores", "provenance"):
        for path in (other.path / folder).iterdir():
            path.unlink()
    assert set(ran(other.dvc_apart("repro"))) == set(STAGES)
    first, second = built.lock(), other.lock()
    for stage in STAGES:
        for path in first[stage]:
            if path.startswith("provenance/"):  # where the run's times are
                assert other.json(path).keys() == built.json(path).keys()
            else:
                assert second[stage][path] == first[stage][path], path
    of_evaluate = {"metrics/evaluate.json", "scores/evaluate.csv", "plots/gain.csv"}
    assert {"models/adapter"} <= set(first["train"]) and of_evaluate <= set(first["evaluate"])


def test_what_changed_is_shown_in_few_lines(repo: Repo) -> None:
    """Of four tasks, as the default has: results, and nothing of what they cost."""
    repo.dvc_here("exp", "run", "--set-param", "train.learning_rate=5e-3")
    lines = repo.dvc_here("metrics", "diff").splitlines()
    assert len(lines) <= 30
    assert any("average.bits_per_byte" in line for line in lines)
    assert not [line for line in lines if re.search("second|version|device|memory", line)]


def test_dvc_s_own_plots_take_every_file(repo: Repo) -> None:
    shown = repo.run("dvc", "plots", "show")
    assert shown.stderr == "" and "file://" in shown.stdout


def test_a_second_clone_pulls_and_runs_nothing(repo: Repo, tmp_path: Path) -> None:
    repo.dvc_here("remote", "add", "--default", "store", str(tmp_path / "store"))
    repo.dvc_here("push")
    repo.commit()
    other = repo.clone(tmp_path / "clone")
    other.dvc_here("pull")
    output = other.dvc_here("repro")
    assert ran(output) == from_cache(output) == [] and "up to date" in output
    assert mix_ids(other) == mix_ids(repo) and other.git("status", "--porcelain") == ""


def test_a_stage_run_by_hand_leaves_the_cache_whole(repo: Repo) -> None:
    """Outputs are hard links into DVC's cache, so writing into one would change what others get."""
    repo.set_params({"data.size": 50})
    assert repo.stage("mix") is None
    assert len(mix_ids(repo)) == 50
    repo.set_params({"data.size": 100})
    repo.dvc_here("checkout", "--force")
    assert len(mix_ids(repo)) == 100
