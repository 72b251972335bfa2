"""The workflows' own scripts, run as GitHub runs them, and what keeps them safe."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.report import WORSE
from sft.core.params import load
from tests.pipeline_repo import ROOT, Repo
from tests.report_repo import clone

FOLDER = ROOT / ".github" / "workflows"
REPORT, EXPERIMENT = load(FOLDER / "report.yml"), load(FOLDER / "experiment.yml")
JOBS = [(path.stem, name, job) for path in FOLDER.glob("*.yml") for name, job in load(path)["jobs"].items()]
# Answers as GitHub's program does, and writes down what it is asked.
GH = """#!/bin/sh
echo "$@" >> "$LOG"
for body in "$@"; do case "$body" in body=@*) cp "${body#body=@}" "$POSTED" ;; esac; done
case "$*" in *PATCH*|*POST*) ;; *) printf "$FOUND" ;; esac
exit "${GH_STATUS:-0}"
"""


def step(workflow: dict[str, Any], job: str, name: str) -> str:
    (script,) = [
        step["run"] for step in workflow["jobs"][job]["steps"] if step.get("name", "").startswith(name)
    ]
    return script


class Runner:
    """Runs a step's script in a repository, with the files and the program that a step finds on GitHub."""

    def __init__(self, repo: Repo, folder: Path, **env: str):
        self.repo, self.folder = repo, folder
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "gh").write_text(GH)
        (folder / "bin" / "gh").chmod(0o755)
        files = {
            name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "LOG", "POSTED")
        }
        path = f"{folder / 'bin'}{os.pathsep}{repo.env['PATH']}"
        self.env = repo.env | files | {"RUNNER_TEMP": str(folder), "PATH": path, "FOUND": "", **env}

    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-e", "-c", script]
        return subprocess.run(command, cwd=self.repo.path, env=self.env | env, capture_output=True, text=True)

    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.read("GITHUB_OUTPUT").splitlines())

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


def test_a_report_is_posted_once_and_then_updated_and_the_job_fails_after_it(
    origin: Repo, tmp_path: Path
) -> None:
    repo = clone(origin, tmp_path / "clone", "worse")
    env = {"BASE": "trunk", "FAIL_ON": "worse", "PULL": "7", "GITHUB_REPOSITORY": "me/it"}
    runner = Runner(repo, tmp_path / "runner", **env)
    result = runner.run(step(REPORT, "report", "Compare"))
    assert result.returncode == 0, result.stderr
    assert runner.outputs() == {"status": str(WORSE)}
    post, done = step(REPORT, "report", "Post"), {"STATUS": str(WORSE)}
    assert runner.run(post, **done).returncode == 0
    assert "--method POST repos/me/it/issues/7/comments" in runner.read("LOG")
    lines = runner.read("POSTED").splitlines()
    assert "worse" in lines[0] and lines[-1] == "<!-- dvc-report -->"
    assert "\n".join(lines[:-2]) + "\n" == runner.read("GITHUB_STEP_SUMMARY")
    assert runner.run(post, FOUND="11\\n12\\n", **done).returncode == 0
    assert "--method PATCH repos/me/it/issues/comments/11" in runner.read("LOG")
    # Not one more comment where GitHub does not say which there are.
    (tmp_path / "runner" / "LOG").unlink()
    assert runner.run(post, GH_STATUS="1", **done).returncode == 1 and "POST" not in runner.read("LOG")
    gate = runner.run(step(REPORT, "report", "Gate"), **done)
    assert gate.returncode == WORSE and gate.stdout.startswith("**Gate failed**")


def test_a_report_that_cannot_be_made_fails_the_job_at_once(origin: Repo, tmp_path: Path) -> None:
    runner = Runner(
        clone(origin, tmp_path / "clone", "worse"), tmp_path / "runner", BASE="nowhere", FAIL_ON="never"
    )
    result = runner.run(step(REPORT, "report", "Compare"))
    assert result.returncode == 1 and "origin/nowhere: no such revision" in result.stderr


def test_a_report_that_cannot_be_made_takes_the_place_of_an_earlier_one(origin: Repo, tmp_path: Path) -> None:
    env = {"BASE": "nowhere", "FAIL_ON": "never", "PULL": "7", "GITHUB_REPOSITORY": "me/it"}
    env |= {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "5", "FOUND": "11"}
    runner = Runner(clone(origin, tmp_path / "clone", "worse"), tmp_path / "runner", **env)
    post = step(REPORT, "report", "Post")
    assert runner.run(post, STATUS="").returncode == 0  # what the report imports could not be installed
    link = "[its run](https://github.com/me/it/actions/runs/5)"
    assert runner.read("POSTED") == (
        f"**The report failed**, so nothing is known of this commit: {link} has the rest.\n\n"
        "<!-- dvc-report -->\n"
    )
    runner.run(step(REPORT, "report", "Compare"))
    assert runner.run(post, STATUS="").returncode == 0
    assert "--method PATCH repos/me/it/issues/comments/11" in runner.read("LOG")
    assert "\n\n    error: origin/nowhere: no such revision here." in runner.read("POSTED")
    (condition,) = [each["if"] for each in REPORT["jobs"]["report"]["steps"] if each.get("run") == post]
    assert condition.startswith("!cancelled() && ")  # without it, a step runs after no failure


def test_the_report_needs_only_what_the_job_installs(built: Repo) -> None:
    (pattern,) = re.findall(r"grep -E '(.*)'", step(REPORT, "report", "Install"))
    named = [
        line for line in (ROOT / "requirements-cpu.txt").read_text().splitlines() if re.match(pattern, line)
    ]
    installed, new = set(), {Requirement(line).name for line in named}
    assert len(new) == pattern.count("|") + 1
    while new:
        name = canonicalize_name(new.pop())
        if name not in installed:
            installed.add(name)
            needs = [Requirement(line) for line in requires(name) or []]
            new |= {need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})}
    script = (
        "import json, sys; before = set(sys.modules); from scripts.report import main\n"
        "main(['--base', 'main'])\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    imported = json.loads(built.run("python", "-c", script).stdout.splitlines()[-1])
    packages = packages_distributions()
    foreign = {name for name in imported if name in packages} - {"scripts", "sft", "stages"}
    lacking = {name for name in foreign if not {canonicalize_name(of) for of in packages[name]} & installed}
    assert "numpy" in foreign and not lacking


def test_an_experiment_is_pushed_and_its_results_are_committed_to_the_branch(
    repo: Repo, tmp_path: Path
) -> None:
    bare = tmp_path / "origin.git"
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(bare))
    repo.git("remote", "add", "origin", str(bare))
    repo.git("switch", "--quiet", "--create", "mine")
    runner = Runner(
        repo,
        tmp_path / "runner",
        BRANCH="mine",
        NAME="run-1-1",
        SET_PARAM=" plot.dpi=50 ;plot.length_sample=10;",
    )
    for name in ("Run the experiment", "Push the experiment"):
        result = runner.run(step(EXPERIMENT, "run", name), GH_TOKEN="secret")
        assert result.returncode == 0, result.stdout + result.stderr
    head = runner.outputs()["head"]
    assert repo.git("ls-remote", "origin", "refs/heads/mine").split()[0] == head
    assert "refs/exps/" in repo.git("ls-remote", "origin", "refs/exps/**/run-1-1")
    params = repo.git("show", f"{head}:params.yaml")
    assert "dpi: 50" in params and "length_sample: 10" in params
    changed = repo.git("diff", "--name-only", "main", head).split()
    assert {"params.yaml", "dvc.lock", "plots/loss.png"} <= set(changed)
    assert not repo.changed_stages() and repo.git("status", "--porcelain") == ""
    assert "secret" not in (repo.path / ".git" / "config").read_text()


@pytest.mark.parametrize("found", ["", "12 release\\n13 main\\n"])
def test_the_pull_request_of_a_branch_is_found(built: Repo, tmp_path: Path, found: str) -> None:
    env = {"BRANCH": "mine", "PULL": "", "BASE": "", "DEFAULT": "main", "GITHUB_REPOSITORY": "me/it"}
    runner = Runner(built, tmp_path / "runner", GITHUB_REPOSITORY_OWNER="me", FOUND=found, **env)
    result = runner.run(step(EXPERIMENT, "plan", "Find"))
    assert result.returncode == 0, result.stderr
    pull, base = ("12", "release") if found else ("", "main")
    assert runner.outputs() == {"branch": "mine", "pull": pull, "base": base}
    assert "-f head=me:mine" in runner.read("LOG")


def test_a_pull_request_that_github_does_not_tell_of_is_not_taken_for_none(
    built: Repo, tmp_path: Path
) -> None:
    env = {"BRANCH": "mine", "PULL": "", "BASE": "", "DEFAULT": "main", "GITHUB_REPOSITORY": "me/it"}
    runner = Runner(built, tmp_path / "runner", GITHUB_REPOSITORY_OWNER="me", GH_STATUS="1", **env)
    assert runner.run(step(EXPERIMENT, "plan", "Find")).returncode == 1


def test_a_part_of_a_pipe_that_fails_fails_its_step() -> None:
    """GitHub runs a step by `bash -eo pipefail` only where the shell is named."""
    for workflow in (REPORT, EXPERIMENT):
        assert workflow["defaults"] == {"run": {"shell": "bash"}}


def test_no_experiment_is_committed_to_the_default_branch(built: Repo, tmp_path: Path) -> None:
    env = {"BRANCH": "main", "PULL": "", "BASE": "", "DEFAULT": "main", "GITHUB_REPOSITORY": "me/it"}
    runner = Runner(built, tmp_path / "runner", GITHUB_REPOSITORY_OWNER="me", **env)
    result = runner.run(step(EXPERIMENT, "plan", "Find"))
    assert result.returncode == 1 and "push a branch of its own" in result.stdout
    assert (
        EXPERIMENT["jobs"]["run"]["needs"] == "plan" and not (tmp_path / "runner" / "GITHUB_OUTPUT").exists()
    )


@pytest.mark.parametrize(
    ("result", "state"),
    [("success", "success"), ("failure", "failure"), ("cancelled", "error"), ("skipped", "error")],
)
def test_an_experiment_s_commit_gets_the_check_of_a_report(
    built: Repo, tmp_path: Path, result: str, state: str
) -> None:
    (check,) = REPORT["jobs"]  # what a pull request's check is called, and protected branches ask for
    env = {"GITHUB_REPOSITORY": "me/it", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "5"}
    runner = Runner(built, tmp_path / "runner", HEAD="0123abcd", RESULT=result, **env)
    assert runner.run(step(EXPERIMENT, "status", "Put")).returncode == 0
    said = runner.read("LOG")
    assert "POST repos/me/it/statuses/0123abcd" in said and f"-f state={state} -f context={check} " in said
    assert (f"the report on the experiment's run was {result}" in said) == (state == "error")


@pytest.mark.parametrize(
    ("workflow", "name", "job"), JOBS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_script_has_a_part_that_others_write(workflow: str, name: str, job: dict[str, Any]) -> None:
    """An expression in a script is put into its text: a branch called `$(...)` would be run."""
    for each in job.get("steps", []):
        assert "${{" not in each.get("run", "")


def test_a_runner_of_one_s_own_runs_no_code_of_a_fork() -> None:
    own = [(workflow, name) for workflow, name, job in JOBS if "self-hosted" in job.get("runs-on", "")]
    assert own == [("experiment", "run")]
    assert EXPERIMENT["jobs"]["run"]["needs"] == "plan" and "if" not in EXPERIMENT["jobs"]["run"]
    assert EXPERIMENT["on"].keys() == {"pull_request", "workflow_dispatch"}  # not pull_request_target
    by_label = EXPERIMENT["jobs"]["plan"]["if"].partition("||")[2]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in by_label
    assert "||" not in by_label


def test_a_fault_in_a_workflow_is_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    broken = tmp_path / "broken.yml"
    broken.write_text((FOLDER / "report.yml").read_text().replace("runs-on:", "run-on:"))
    assert subprocess.run([*command, *FOLDER.glob("*.yml")]).returncode == 0
    assert subprocess.run([*command, broken], capture_output=True).returncode == 1
