"""Runs of every kind, killed in the middle: run again, they end as an undisturbed run does.

`python -m benchmarks.chaos` is the long form, with the default's model and at random moments.
"""

import random
import signal
from pathlib import Path

import pytest

from benchmarks.chaos import verdict
from benchmarks.chaos.chain import ChainRun, Report
from benchmarks.chaos.outcome import Outcome, outcome
from benchmarks.chaos.plan import Chain, Moment
from benchmarks.chaos.processes import Means
from benchmarks.chaos.repository import Repository
from tests.pipeline_repo import STAGES, Repo
from tests.shortened import forget

KILL_DVC, TERMINATE_DVC = Means(signal.SIGKILL, "dvc"), Means(signal.SIGTERM, "dvc")
KILL_ALL = Means(signal.SIGKILL, "group")  # a signal to a short stage alone may come after its end
# Training has done a step, and has more than a second's worth of them to do.
TRAINS, ANSWERS = r"training:[^\r\n]*\| [1-9]\d*/", r"answering \w+:"
INTERVAL = 0.2  # seconds between two checkpoints
LONGER = {"train.budget": "150 steps", "train.validation_every": 50}


def killed(repo: Repo, kind: str, expected: Outcome, *moments: Moment, params: dict | None = None) -> Report:
    """Run a chain in the repository, and hold it faultless but for what it did twice."""
    env = repo.env | {"SFT_CHECKPOINT_SECONDS": str(INTERVAL)}
    repository = Repository(repo.path, env, str(repo.path))
    wanted = params or {}
    chain = ChainRun(0, Chain(kind, moments), repository, wanted, wanted, STAGES, INTERVAL, random.Random(0))
    report = chain.until_done(expected)
    assert [kill.means for kill in report.kills] == [
        f"{m.means.signal.name} {m.means.whom}" for m in moments
    ], report.output
    assert verdict.faults([report]) == [], report.output
    assert [kill.place for kill in report.kills] == [moment.place for moment in moments], report.output
    return report


@pytest.mark.long
def test_training_killed_twice_goes_on(built: Repo, repo: Repo, tmp_path: Path) -> None:
    undisturbed = built.copy(tmp_path / "undisturbed")
    for each in (undisturbed, repo):
        forget(each, "train", last="baseline")
        each.set_params(LONGER)
    undisturbed.dvc_here("repro")
    expected = outcome(undisturbed.path)
    report = killed(
        repo,
        "repro",
        expected,
        Moment("train", KILL_ALL, shows=TRAINS),
        Moment("train", TERMINATE_DVC, shows=TRAINS),
    )
    first, second = report.kills
    assert 0 < first.went_on_from < second.went_on_from < 150


@pytest.mark.long
def test_an_experiment_killed_and_rescued(built: Repo, repo: Repo) -> None:
    of_all = outcome(built.path)
    forget(repo, "evaluate", last="evaluate")
    expected = outcome(repo.path)  # which has the rest of the pipeline
    for path in expected.outputs:
        expected.outputs[path] = of_all.outputs[path]
    expected.stages["evaluate"] = of_all.stages["evaluate"]
    report = killed(repo, "exp run", expected, Moment("evaluate", KILL_DVC, shows=ANSWERS))
    assert report.refused == 0 and report.went_on == 1


@pytest.mark.long
def test_a_temporary_run_killed(built: Repo, repo: Repo) -> None:
    expected = outcome(built.path)
    forget(repo, "standardize", "mix")
    killed(repo, "exp run --temp", expected, *[Moment("standardize", KILL_ALL)] * 2)


@pytest.mark.full
def test_a_queued_task_killed(built: Repo, repo: Repo) -> None:
    expected = outcome(built.path)
    forget(repo, "standardize", "mix")
    killed(repo, "queue", expected, Moment("standardize", KILL_ALL))
