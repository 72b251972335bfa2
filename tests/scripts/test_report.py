"""The report on a pull request, in real clones that have no cache, as the job runs it."""

import contextlib
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from dvc.cli import main as dvc
from dvc.exceptions import DvcException
from dvc.repo import Repo as DvcRepo

from scripts import dvc_gate
from scripts import report_sections as sections
from scripts.dvc_gate import Freshness
from scripts.report import STALE, WORSE, Comparison, fitted, gate, main
from scripts.revisions import git, github
from sft.statistics.gains import Gain
from sft.statistics.significance import Outcome
from stages.paths import METRICS_EVALUATE, SCORES_EVALUATE
from tests.pipeline_repo import Repo
from tests.report_repo import PICTURE, clone, scores, write


@pytest.fixture(autouse=True)
def dvc_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask DVC in this process what the report asks one of DVC's: test_dvc_gate.py has it start those."""
    process = dvc_gate._dvc

    def ask(*arguments: str, folder: Path | str = ".") -> str:
        printed = io.StringIO()
        if arguments == ("status", "--json"):  # which DVC prints past what is captured here
            with contextlib.suppress(DvcException), contextlib.chdir(folder), DvcRepo() as repo:
                return json.dumps(repo.status())
        else:
            with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
                if dvc([*arguments]) == 0:
                    return printed.getvalue()
        return process(*arguments, folder=folder)  # which says what is at fault

    monkeypatch.setattr(dvc_gate, "_dvc", ask)


def report(repo: Repo, *arguments: str) -> tuple[str, int]:
    """Run the report in a repository; return what it prints, its errors included, and its exit status."""
    printed = io.StringIO()
    with (
        contextlib.chdir(repo.path),
        mock.patch.dict(os.environ, repo.env, clear=True),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        status = main([*arguments])
    assert repo.git("worktree", "list").count("\n") == 1
    return printed.getvalue(), status


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line[:1] == "|"
    ]


def unfolded(text: str) -> str:
    return re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)


def test_a_branch_that_is_better(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "better")
    text, status = report(repo, "--base", "origin/trunk")
    lines = text.splitlines()
    assert status == 0
    assert re.match("Better than before.* recipe", lines[0])
    fork = repo.git("merge-base", "HEAD", "origin/trunk").strip()
    assert f"Compared with `origin/trunk` at `{fork[:9]}`, where the branch left it." in text
    assert "than the base model" in text
    found = rows(unfolded(text))
    assert ["`train.learning_rate`", "`0.002`", "`0.0005`"] in found
    assert ["`train.seed`", "`42`", "`7`"] in found
    by_name = {(row[0], row[1].partition(" (")[0]): row for row in found if len(row) == 7}
    bits = by_name["`recipe`", "bits per byte"]
    before, after, difference = map(float, bits[2:5])
    low, high = map(float, bits[5].split(" to "))
    assert after == pytest.approx(before - 0.3, abs=0.02) and difference == pytest.approx(-0.3, abs=0.02)
    assert low < difference < high < 0 and bits[6] == "**better**"
    assert by_name["`question`", "ROUGE-1"][6].startswith("no significant difference")
    assert len(unfolded(text).splitlines()) < 60
    folded = set(text.splitlines()) - set(unfolded(text).splitlines())
    assert "| `provenance/train.json` | `seconds` | `5` | `6` |" in folded
    assert any(METRICS_EVALUATE in line and "average.rouge1" in line for line in folded)
    assert "torch" not in text  # it did not change
    assert lines[-1].startswith("**Gate passed** (--fail-on worse): dvc.lock is up to date")
    assert lines[-1].endswith("no task got significantly worse.")
    assert PICTURE not in text  # the repository is not on GitHub
    assert repo.git("status", "--porcelain") == ""


def test_a_branch_on_which_a_task_is_worse(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "worse")
    for fail_on, expected in (((), WORSE), (("--fail-on", "stale"), 0), (("--fail-on", "never"), 0)):
        text, status = report(repo, "--base", "origin/trunk", *fail_on)
        first, *_, last = text.splitlines()
        assert status == expected
        assert "definition" in first and "worse" in first
        assert last.startswith(f"**Gate {'failed' if expected else 'passed'}**")
        assert re.search("significantly worse: .*definition by ROUGE-1", last)


def test_a_lock_that_is_behind(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "stale")
    text, status = report(repo, "--base", "origin/trunk", "--fail-on", "stale")
    last = text.splitlines()[-1]
    assert status == STALE and last.startswith("**Gate failed** (--fail-on stale): dvc.lock is behind")
    assert "`dvc repro` would run train (`train.budget`) and what follows" in last
    assert text.startswith("**The scores are of an earlier run, see the last line.**")
    assert "Better than before" in text.splitlines()[0]
    assert report(repo, "--base", "origin/trunk", "--fail-on", "never")[1] == 0
    # Another revision than the workspace is looked at as it is committed, and here is up to date.
    text, status = report(repo, "--base", "origin/trunk", "--head", "origin/better")
    assert status == 0 and "dvc.lock is up to date" in text and "train.budget" not in text
    repo.git("switch", "--quiet", "better")
    # The workspace's hooks are not for the other revision's folder.
    (repo.path / ".git" / "hooks" / "post-checkout").write_text("#!/bin/sh\nexit 1\n")
    (repo.path / ".git" / "hooks" / "post-checkout").chmod(0o755)
    assert report(repo, "--base", "origin/trunk", "--head", "origin/stale")[1] == STALE


def test_a_branch_that_changes_no_score(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "trunk")
    text, status = report(repo, "--base", "origin/trunk~1")
    assert status == 0 and text.startswith("No difference: every answer's scores are those of before.\n")
    assert "No param changed." in text and "<details>" not in text and rows(text) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://someone:password@github.com/me/it.git",
        "https://github.com/me/it",
        "git@github.com:me/it.git",
        "ssh://git@github.com/me/it.git",
    ],
)
def test_the_address_on_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    assert github("main") is None
    git("remote", "add", "origin", url)
    git("remote", "add", "mine", "https://example.org/github.com/me/it.git")
    assert github("main") == github("origin/main") == "https://github.com/me/it"
    assert github("mine/main") is None


def test_pictures_are_linked_where_the_repository_is_on_github(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "better")
    head, fork = (repo.git("rev-parse", name).strip() for name in ("HEAD", "HEAD~1"))
    repo.git("remote", "set-url", "origin", "https://someone:password@github.com/me/it.git")
    text, _ = report(repo, "--base", "origin/trunk")
    (line,) = [line for line in text.splitlines() if PICTURE in line]
    assert re.findall(r"\((\S+)\)", line) == [
        f"https://github.com/me/it/raw/{commit}/plots/gain.png" for commit in (fork, head)
    ]
    assert "password" not in text
    write(repo, PICTURE, "another, which GitHub does not have")
    text, _ = report(repo, "--base", "origin/trunk")
    assert fork in text and f"raw/{head}" not in text


def test_a_shallow_clone_is_compared_with_the_base_s_tip(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "worse", "--depth", "1", "--no-single-branch")
    text, status = report(repo, "--base", "origin/trunk")
    tip = repo.git("rev-parse", "origin/trunk").strip()
    assert (
        status == WORSE
        and f"Compared with the tip of `origin/trunk`, `{tip[:9]}`: this clone is shallow" in text
    )
    assert "git fetch --unshallow" in text
    assert "definition" in text.splitlines()[0]


def test_a_clone_of_one_branch_names_the_fetch_that_is_missing(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "worse", "--depth", "1")
    text, status = report(repo, "--base", "origin/trunk")
    assert status == 1 and text.startswith("error: origin/trunk: no such revision here.")
    fetch = text.strip().rpartition(": ")[2]
    repo.run(*fetch.split())
    assert report(repo, "--base", "origin/trunk")[1] == WORSE


@pytest.mark.parametrize("arguments", [("--base", "nowhere"), ("--base", "trunk", "--head", "nowhere")])
def test_an_unknown_revision_is_an_error(origin: Repo, arguments: tuple[str, ...]) -> None:
    text, status = report(origin, *arguments)
    assert status == 1 and text == (
        "error: nowhere: no such revision here. Check the name, or fetch it first: git fetch origin\n"
    )


@pytest.mark.parametrize(
    ("name", "base", "said"),
    [
        (
            "better",
            "origin/old",
            r"`\w{9}` has no scores/evaluate.csv. It is older. With today's code on `origin/old`",
        ),
        ("others", "origin/trunk", r"not scored on the same examples"),
        (
            "damaged",
            "origin/trunk",
            r"scores/evaluate.csv of the workspace: damaged, .*'zero\d+' is no number",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_and_the_rest_shown(
    origin: Repo, tmp_path: Path, name: str, base: str, said: str
) -> None:
    text, status = report(clone(origin, tmp_path / "clone", name), "--base", base)
    lines = text.splitlines()
    assert status == 0 and lines[0].startswith("Results not compared: ") and re.search(said, lines[0])
    assert "average.rouge1" in text and "Traceback" not in text
    assert "`data.holdout.seed`" in text or name != "others"
    assert lines[-1].endswith(
        "dvc.lock is up to date with code and params; whether a task got worse is not known."
    )


def test_a_task_s_own_metric_that_a_branch_removes(origin: Repo, tmp_path: Path) -> None:
    """The base's scores are read by the branch's code, which knows the metric no more."""
    before = scores(2).replace(",format,", ",gone,", 1)
    repo = clone(origin, tmp_path / "clone", "trunk")
    write(repo, SCORES_EVALUATE, before)
    repo.commit("the metric was there")
    write(repo, SCORES_EVALUATE, scores(3))
    text, _ = report(repo, "--base", "HEAD")
    assert "Not compared, for one side lacks it: `recipe by gone`, `recipe by recipe format`." in text
    write(repo, SCORES_EVALUATE, before.replace(",0.3", ",0.4"))  # on both sides, it is not compared either
    text, _ = report(repo, "--base", "HEAD")
    assert "| `recipe` | ROUGE-1 " in text and "Not compared, for" not in text and "by gone" not in text


def test_a_base_that_has_scores_by_now_is_to_be_merged(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "old")
    write(repo, SCORES_EVALUATE, scores(6))
    text, _ = report(repo, "--base", "origin/trunk")
    assert (
        "By now `origin/trunk` has it: `git merge origin/trunk`, `dvc repro`, commit." in text.splitlines()[0]
    )


def test_a_long_report_shows_a_page_and_fits_into_a_comment(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "better")
    names = ["model.dtype", *(f"plot.{name}" for name in ("dpi", "length_sample"))]
    names += [f"evaluate.{name}" for name in ("examples", "runs", "seed", "temperature")]
    names += [f"train.{name}" for name in ("budget", "batch_size", "warmup_steps", "too_long", "optimizer")]
    repo.set_params({name: f"new | `{name}`" for name in names})
    entries = {f"a_long_name_of_an_entry_{number}": number for number in range(300)}
    write(repo, "provenance/train.json", json.dumps(entries))
    text, status = report(repo, "--base", "origin/trunk")
    assert status == STALE and len(unfolded(text).splitlines()) < 60
    assert (
        f"{len(names) + 2 - 10} more params" in text
        and "| `a_long_name_of_an_entry_299` |  | `299` |" in text
    )
    assert r"`new \| 'model.dtype'`" in text
    write(repo, "provenance/train.json", json.dumps({name * 40: value for name, value in entries.items()}))
    text, status = report(repo, "--base", "origin/trunk")
    assert len(text) < 65_536 and status == STALE and "too long for a comment" in text
    assert text.splitlines()[-1].startswith("**Gate failed**")


def test_a_report_of_any_length_fits_into_a_comment() -> None:
    wide = ["| " + "x" * 60_000 + " |"]
    folded = ["<details><summary>more</summary>", "", *wide, "", "</details>", ""]
    shown = ["Better.", "", "| a |", *folded]
    assert fitted(shown, ["below", ""], "last") == "\n".join([*shown, "below", "", "last"])
    text = fitted([*shown, *folded], ["below", ""], "last")
    assert text.startswith("Better.\n\n| a |\n") and text.endswith("last") and "<details>" not in text
    assert "other rows are too long" in text and "below" not in text
    text = fitted(["Better.", "", *wide, *wide], [], "last")
    assert len(text) < 65_536 and text.startswith("Better.\n") and text.endswith("last")


def test_what_cannot_be_judged_is_not_called_fine() -> None:
    few = Gain("task", "rouge1", 0.2, 0.1, -0.1, None, None, None, Outcome.NOT_JUDGED, "too few examples")
    line, status = gate(Freshness({}, []), Comparison("", [few]), "worse")
    assert status == 0 and line.endswith("whether a task got worse is not known.")


def test_the_exit_status_where_a_task_is_worse_and_the_lock_behind() -> None:
    worse = Gain("task", "rouge1", 0.2, 0.1, -0.1, -0.2, -0.05, 0.01, Outcome.WORSE, "")
    lock, compared = Freshness({"train": ["train.budget"]}, []), Comparison("", [worse])
    statuses = {fail_on: gate(lock, compared, fail_on)[1] for fail_on in ("worse", "stale", "never")}
    assert statuses == {"worse": STALE, "stale": STALE, "never": 0}
    line, _ = gate(lock, compared, "worse")
    assert "dvc.lock is behind" in line and "significantly worse: task by ROUGE-1" in line
    line, status = gate(Freshness({}, ["data/raw/many"]), Comparison("", []), "worse")
    assert status == 0 and "data/raw was not checked, for this clone lacks `data/raw/many`" in line


def test_damaged_params_are_an_error(origin: Repo, tmp_path: Path) -> None:
    repo = clone(origin, tmp_path / "clone", "better")
    write(repo, "params.yaml", "train: {\n")
    text, status = report(repo, "--base", "origin/trunk", "--fail-on", "never")
    assert status == 1 and text.startswith("error: ") and "params.yaml" in text and "Traceback" not in text


def test_nothing_is_shown_as_minus_zero() -> None:
    gain = Gain("task", "rouge1", 0.2, 0.2, -0.0001, -0.0002, 0.1, 1.0, Outcome.NO_DIFFERENCE, "")
    text = "\n".join(sections.scores([gain]))
    assert "| +0.000 | +0.000 to +0.100 |" in text and "-0.000" not in text


def test_the_gate_names_what_was_not_tested_though_worse() -> None:
    average = Gain(
        "average", "bits_per_byte", 1.5, 1.501, 0.001, -0.01, 0.012, 0.8, Outcome.NO_DIFFERENCE, ""
    )
    task = replace(average, task="definition", difference=0.289, low=0.27, high=0.309, p=None)
    compared = Comparison("", [average, replace(task, outcome=Outcome.NOT_TESTED)])
    line, status = gate(Freshness({}, []), compared, "worse")
    assert status == 0 and line.endswith(
        "no task got significantly worse; "
        "not tested, though worse by its own 95% interval: definition by bits per byte."
    )


def test_what_differs_is_shown_first_where_there_are_many_tasks() -> None:
    unseen = Gain("task", "rouge1", 0.2, 0.2, 0.0, -0.1, 0.1, 1.0, Outcome.NO_DIFFERENCE, "")
    worse = replace(unseen, task="last", outcome=Outcome.WORSE)
    lines = sections.scores([*(replace(unseen, task=f"task{number}") for number in range(40)), worse])
    shown = unfolded("\n".join(lines))
    assert "last" in shown.splitlines()[2] and "**worse**" in shown.splitlines()[2]
    assert len(shown.splitlines()) <= 30 and "17 more scores" in "\n".join(lines)
