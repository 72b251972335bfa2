"""The chaos benchmark sees what it looks for: lost and stale outputs, work done twice, stages never hit."""

import itertools
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.chaos import plan, verdict
from benchmarks.chaos.__main__ import BUDGET, WANTED
from benchmarks.chaos.chain import Kill, Report
from benchmarks.chaos.outcome import differences, leftovers, outcome
from benchmarks.chaos.processes import MEANS, Means, Run, marked, orphans
from benchmarks.chaos.progress import Trained, answered, answers_kept, goes_on, went_on_from
from benchmarks.chaos.repository import set_params
from sft.core.params import load
from stages.check import main as check
from tests.imports import ROOT

STAGES = {"standardize": 8.0, "train": 40.0, "baseline": 20.0, "evaluate": 20.0, "plot": 8.0}
PIPELINE = """
stages:
  train:
    cmd: python -m stages.train
    outs: [models/adapter]
    metrics: [{metrics/train.json: {cache: false}}]
    plots: [{provenance/train.json: {cache: false}}]
"""
LOCK = """
schema: '2.0'
stages:
  train:
    cmd: python -m stages.train
    deps: [{path: mix.parquet, hash: md5, md5: aa, size: 1}]
    params: {params.yaml: {train.seed: 1}}
    outs:
    - {path: models/adapter, hash: md5, md5: bb.dir, size: 1, nfiles: 1}
    - {path: provenance/train.json, hash: md5, md5: cc, size: 1}
  card:
    cmd: python -m stages.card
    deps:
    - {path: provenance/train.json, hash: md5, md5: cc, size: 1}
    - {path: plots/gain.csv, hash: md5, md5: ee, size: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "dvc.yaml": PIPELINE,
        "dvc.lock": LOCK,
        "models/adapter/weights": "1",
        "metrics/train.json": '{"loss": 1.0}',
        "provenance/train.json": '{"seconds": {"train": 3.0}, "steps": 4}',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "text", "seen"),
    [
        ("models/adapter/weights", "2", [("models/adapter", "another content")]),
        ("models/adapter/another", "1", [("models/adapter", "another content")]),
        ("metrics/train.json", None, [("metrics/train.json", "missing")]),
        ("metrics/train.json", '{"loss": 1.00}', [("metrics/train.json", "another content")]),
        ("provenance/train.json", '{"seconds": {"train": 9.0}, "steps": 4}', []),
        (
            "provenance/train.json",
            '{"seconds": {"train": 3.0}, "steps": 5}',
            [("provenance/train.json", "another content")],
        ),
        ("provenance/train.json", "torn", [("provenance/train.json", "another content")]),
        ("dvc.lock", LOCK.replace("md5: cc", "md5: dd"), []),
        ("dvc.lock", LOCK.replace("train.seed: 1", "train.seed: 2"), [("dvc.lock, train", "other params")]),
        ("dvc.lock", LOCK.replace("md5: ee", "md5: ff"), [("dvc.lock, card", "other deps")]),
        ("dvc.lock", LOCK.replace("md5: bb", "md5: dd"), [("dvc.lock, train", "other outs")]),
    ],
)
def test_what_differs_is_found(folder: Path, path: str, text: str | None, seen: list) -> None:
    expected = outcome(folder)
    assert differences(expected, outcome(folder)) == []
    if text is None:
        (folder / path).unlink()
    else:
        (folder / path).write_text(text)
    assert differences(expected, outcome(folder)) == seen


def test_what_is_left_over_is_found(folder: Path) -> None:
    def git(*arguments: str) -> None:
        config = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *config, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "--initial-branch", "main")
    git("add", "--all")
    git("commit", "--message", "all")
    own = {"dvc.yaml": "cmd: python"}
    assert leftovers(folder, own) == ([], [])
    (folder / "models/adapter.partial").touch()
    (folder / ".dvc/tmp/exps/standalone/tmpabc").mkdir(parents=True)
    for name in ("key-0", "key-1"):
        (folder / ".dvc/tmp/work/train" / name).mkdir(parents=True)
    (folder / ".dvc/tmp/work/train/key-1.finished").touch()
    git("checkout", "--detach")
    broken, room = leftovers(folder, own | {"notes.txt": "mine"})
    assert broken == ["notes.txt: the user's own change is gone", "HEAD is detached"]
    assert room == [
        "models/adapter.partial",
        ".dvc/tmp/exps/standalone/tmpabc",
        ".dvc/tmp/work/train/key-0 (0 MiB)",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_stage_and_every_means_is_drawn(seed: int) -> None:
    def drawn() -> list[plan.Chain]:
        return list(itertools.islice(plan.chains(STAGES, 25, seed), len(plan.RUNS)))

    moments = [moment for chain in drawn() for moment in chain.moments]
    assert len(moments) == 25 and drawn() == drawn()
    assert {moment.place for moment in moments} >= STAGES.keys() | {"after plot", "start"}
    assert {moment.means for moment in moments} == set(MEANS)
    assert all(0 <= moment.seconds <= STAGES.get(moment.place, plan.DVC_STARTS) for moment in moments)
    for chain in drawn():
        places = [moment.place for moment in chain.moments]
        assert chain.changes_in is None or chain.changes_in in places
        order = [place for place in STAGES if place in places]
        assert [place for place in dict.fromkeys(places) if place in STAGES] == order


def test_the_budget_is_of_params_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the check writes
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    others = dict(plan.OTHER.values())
    set_params(path, BUDGET | WANTED | others)
    check(load(path))
    assert load(path)["train"]["budget"] == BUDGET["train.budget"] and "# " in path.read_text()
    with pytest.raises(KeyError, match=r"train\.sed"):
        set_params(path, {"train.sed": 1})


SHOWN = (
    "import time\n"
    "print(\"Running stage 'train':\\n\\rtraining:   0%|   | 0/40 [00:00<?, ?step/s]\", end='', flush=True)\n"
    "for step in (2, 5):\n"
    "    time.sleep(0.3)\n"
    "    print(f'\\rtraining:  10%|#  | {step}/40 [00:02<01:00, validation=2.8]', end='', flush=True)\n"
    "time.sleep(60)\n"
)


def test_work_done_twice_is_counted_from_what_was_shown_when(tmp_path: Path) -> None:
    run = Run([sys.executable, "-c", SHOWN], tmp_path, {}, f"{tmp_path}")
    while "5/40" not in run.text:
        assert not run.ended, run.text
        time.sleep(0.01)
    assert run.send(Means(signal.SIGKILL, "group"), random.Random(0)) == "group"
    run.process.wait(10)
    assert list(run.begun()) == ["train"] and not run.succeeded and marked(run.mark) == []
    trained = Trained.of(run)
    assert trained and trained.last == 5
    until = trained.seen[5] + 1
    assert trained.lost(5, until) == 1 and trained.lost(6, until) == 0
    assert trained.lost(0, until) > trained.lost(2, until) > 1  # how much more depends on the reader


def test_what_a_stage_says_of_work_of_before() -> None:
    assert went_on_from("x\ngoing on from step 1,200 of 2,000 (checkpoint of 12:03:44)") == 1200
    kept = "going on: 1,160 of 2,880 answers and 4 of 256 likelihoods are there\n"
    assert answers_kept(kept) == 1160 and goes_on(kept)
    assert answers_kept("Running stage 'evaluate':\n") is None
    assert not goes_on("hf://a/b: the transfer broke off (reset); going on ...\n")
    bars = (
        "\ranswering recipe:   0%|   | 0/8 [00:00<?, ?answer/s]"
        "\ranswering recipe:  50%|## | 4/8 [00:05<00:00]"
        "\ranswering recipe: 100%|###| 8/8 [00:05<00:00]\n\ranswering question:  50%|## | 4/8 [00:05<00:00]"
    )
    assert answered(bars) == 12 and answered("") is None


def test_an_orphan_is_a_stage_without_dvc(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/train.py").write_text("import time\nprint('trains', flush=True)\ntime.sleep(60)\n")
    # A process named dvc, as the real one is: `python .../bin/dvc`.
    (tmp_path / "dvc").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'stages.train'])\n"
    )
    run = Run([sys.executable, "dvc"], tmp_path, {}, f"{tmp_path}")
    while "trains" not in run.text:
        assert not run.ended, run.text
        time.sleep(0.01)
    assert orphans(run.mark) == []
    run.send(Means(signal.SIGKILL, "dvc"), random.Random(0))
    run.process.wait(10)
    (orphan,) = orphans(run.mark)
    orphan.kill()


def kill(**changes: object) -> Kill:
    values = {"chain": 0, "kind": "repro", "place": "train", "means": "SIGKILL dvc", "seconds_into_run": 9.0}
    return Kill(**values | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({}, ""),
        ({"lost": ["scores/evaluate.csv: missing"]}, "lost: scores/evaluate.csv: missing"),
        ({"stale": ["models/adapter: another content"]}, "stale: models/adapter: another content"),
        ({"manual": ["HEAD is detached"]}, "manual: HEAD is detached"),
        ({"kills": [kill(orphans=["train"])]}, "went on without DVC"),
        ({"kills": [kill(done_twice_seconds=9.0, allowed_seconds=8.0)]}, "9.0 s were trained twice"),
        ({"kills": [kill(answers=8, answers_kept=4)]}, "8 answers were there, and 4 were kept"),
        ({"kills": [kill(place="plot")]}, "train: no run was killed in it"),
    ],
)
def test_each_fault_is_said(report: dict, said: str) -> None:
    found = verdict.faults([Report(0, "repro", **({"kills": [kill()]} | report))], ["train"])
    assert len(found) == bool(said) and all(said in fault for fault in found)


def test_the_table_counts_all() -> None:
    kills = [kill(), kill(place="DVC after train", means="SIGINT group")]
    reports = [
        Report(0, "repro", kills),
        Report(1, "queue", [kill(kind="queue", done_twice_seconds=1.0, allowed_seconds=2.0)]),
    ]
    assert verdict.table(reports) == [
        "| killed in | `repro` | `queue` | all |",
        "|---|---|---|---|",
        "| train | 1 | 1 | 2 |",
        "| DVC's own work | 1 | 0 | 1 |",
        "| all | 2 | 1 | 3 |",
        "",
        "| by | times |",
        "|---|---|",
        "| SIGINT group | 1 |",
        "| SIGKILL dvc | 2 |",
    ]
