"""A study: which comparisons it makes, what it says of planted differences and of none, and a real one."""

import csv
import gzip
import json
import os
import random
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.data.holdout import TASKS
from sft.evaluation.metrics import COMMON
from sft.study import analysis
from sft.study.intervals import verdicts
from sft.study.report import conclusion, markdown
from sft.study.results import Configuration
from tests.pipeline_repo import Repo, from_cache, ran, wait_for
from tests.study.test_comparison import MEANS
from tests.study.test_comparison import result as a_result

SIZES = ("100k", "200k", "300k")


def result(name, size, seed, shift=0.0, budget="60 steps", overlap="remove"):
    """Make a result of a study; `shift` tenths of the mean better."""
    made = a_result(name, int(size[:-1]), seed, shift)
    made.params["data"] |= {"size": size, "base": ["some://base"], "extra": ["some://extra"]}
    made.params["data"]["filters"] = {"overlap": overlap}
    made.params["train"]["budget"] = budget
    made.params["model"] = {"reference": "some-model"}
    rows = 480 if budget == "60 steps" else int(size[:-1]) * 1000
    made.metrics["trained_on"] = {
        **{"rows_seen": rows, "distinct_rows_seen": rows, "tokens_seen": 80 * rows},
        "epochs": rows / (int(size[:-1]) * 1000),
    }
    made.metrics["difference"] = {}
    for task in (*TASKS, analysis.AVERAGE):
        made.metrics[task], made.metrics["difference"][task] = {}, {}
        for measure in COMMON:
            mean = np.mean([row[measure] for row in made.answers if task in (row["task"], analysis.AVERAGE)])
            made.metrics[task][measure] = {"mean": mean}
            made.metrics["difference"][task][measure] = mean - MEANS.get(measure, 0.2)
    return made


def a_study(gain=0.0, replicates=4, overlap=True):
    members = [
        result(f"{budget}-{size}-{n}", size, n, gain * (size == "300k") * (budget == "1 epoch"), budget)
        for budget in ("60 steps", "1 epoch")
        for size in SIZES
        for n in range(replicates)
    ]
    if overlap:
        members += [result(f"keep-{n}", "300k", n, 0.0, "1 epoch", "keep") for n in range(replicates)]
    return members


def test_what_is_compared_is_laid_down():
    found = analysis.study(a_study())
    assert [regime.name for regime in found.regimes] == [
        "60 steps",
        "1 epoch, overlap remove",
        "1 epoch, overlap keep",
    ]
    names = list(dict.fromkeys(comparison.name for comparison in found.comparisons))
    assert names == [
        "60 steps: 200k against 100k",
        "60 steps: 300k against 100k",
        "1 epoch, overlap remove: 200k against 100k",
        "1 epoch, overlap remove: 300k against 100k",
        # Regimes that differ in the budget alone; those that differ in the overlap alone.
        *(f"{size}: 1 epoch, overlap remove against 60 steps" for size in SIZES),
        "300k: 1 epoch, overlap keep against 1 epoch, overlap remove",
    ]
    per_pair = [(c.task, c.measure) for c in found.comparisons if c.name == names[0]]
    assert per_pair == [
        (task, measure) for measure in analysis.MEASURES for task in (*TASKS, analysis.AVERAGE)
    ]
    numbers = analysis.table_rows(found)
    (row,) = [
        row
        for row in numbers
        if (row["regime"], row["data.size"], row["task"], row["measure"])
        == ("60 steps", 300_000, "average", "rougeL")
    ]
    stacked = [[found.scores[task, "rougeL"][f"60 steps-300k-{n}"] for n in range(4)] for task in TASKS]
    assert row["mean"] == pytest.approx(np.mean(stacked))
    assert row["std_replicates"] == pytest.approx(np.mean(stacked, axis=(0, 2, 3)).std(ddof=1))
    assert row["low"] < row["difference"] < row["high"] and row["verdict"].startswith("no difference")
    assert (row["rows_seen"], row["distinct_rows_seen"], row["epochs"]) == (480, 480, 480 / 300_000)


def test_a_planted_gain_is_told_and_nothing_else():
    members = a_study(gain=1.0)
    found = analysis.study(members)
    gained = {
        "1 epoch, overlap remove: 300k against 100k": "better",
        "300k: 1 epoch, overlap remove against 60 steps": "better",
        "300k: 1 epoch, overlap keep against 1 epoch, overlap remove": "worse",
    }
    for comparison, verdict in zip(found.comparisons, found.judged, strict=True):
        assert verdict.words.split(" ")[0] == gained.get(comparison.name, "no"), comparison
    text = conclusion(found, members)
    assert text.startswith(
        "A larger mix is better than the smallest in 10 of 40 comparisons, and worse in 0."
    )
    assert "Trained for 60 steps, 300k rows instead of 100k makes no difference that can be seen" in text
    assert (
        "Such a training reads 480 of 300,000 rows and 480 of 100,000, on average 38,400 and 38,400 tokens: "
        "the mix's size decides from which sources they come" in text
    )
    assert "Trained for 1 epoch, overlap remove, 300k rows instead of 100k is better by ROUGE-L (+0.0" in text
    assert "on the average of the tasks; task by task" in text
    # An epoch of 300k rows is longer.
    longer = "The training on 300k rows also reads 3.0 times as many rows and 3.0 times as many tokens."
    assert text.count(longer) == 1
    assert "With 300k rows, 1 epoch, overlap keep instead of 1 epoch, overlap remove is worse by" in text
    assert "30 of the 80 comparisons laid down can be told from chance (Holm)." in text
    numbers = {(row["regime"], row["data.size"], row["measure"]): row for row in analysis.table_rows(found)}
    of_nll = numbers["1 epoch, overlap remove", 300_000, "nll"]
    assert of_nll["low"] < of_nll["difference"] < of_nll["high"] < 0  # lower, which is better
    assert analysis.base_scores(members)["average", "nll"] == pytest.approx(2.0)
    assert "A size" not in text and "could not be made" not in text
    assert "This speaks of some-model on this data and these tasks only." in text


def test_the_report():
    members = a_study()
    found = analysis.study(members)
    text = markdown(found, members, analysis.table_rows(found), analysis.base_scores(members))
    assert "| base model | " in text and "Warning" not in text
    table = text.split("## 60 steps\n")[1].split("\n## ")[0]
    assert re.search(r"\| 300k \|( \d\.\d{3} \|){6} 1\.9\d\d \| 480 \| 480 \| 0\.0016 \|", table)
    assert "Base: `some://base`. Extra, where base is used up: `some://extra`." in text
    assert "Beside one another only, for they differ in more than one param: 60 steps and 1 epoch" in text
    assert "`train.budget: 1 epoch`" in text and "Warning" not in text
    assert "p is corrected for all 80 comparisons that the study makes (Holm)." in text
    two = analysis.study(a_study(replicates=2, overlap=False))
    assert {verdict.words for verdict in two.judged} == {"nothing can be said: 2 replicates"}
    assert "cannot be judged (2 replicates)" in conclusion(two, a_study(replicates=2))
    assert "A larger mix" not in conclusion(two, a_study(replicates=2))
    with pytest.raises(UserError, match="two configurations at least"):
        analysis.study(members[:4])
    del members[0].answers[5]["nll"]
    with pytest.raises(UserError, match="60 steps-100k-0: its answers have no nll"):
        analysis.study(members)


def test_the_order_of_the_results_changes_nothing():
    members = a_study(replicates=3)
    texts = set()
    for seed in range(3):
        random.Random(seed).shuffle(members)
        found = analysis.study(members)
        texts.add(markdown(found, members, analysis.table_rows(found), analysis.base_scores(members)))
    assert len(texts) == 1


def test_a_regime_is_named_by_its_budget():
    members = [result(f"{size}-{n}", size, n, budget="1 epoch") for size in SIZES for n in range(3)]
    found = analysis.study(members)
    assert [regime.name for regime in found.regimes] == ["1 epoch"]
    assert "Trained for 1 epoch, 300k rows instead of 100k" in conclusion(found, members)
    for member in members:  # as many rows whatever the size
        member.metrics["trained_on"] |= {"rows_seen": 3e5, "distinct_rows_seen": 3e5, "tokens_seen": 2e7}
    assert "times as many rows" not in conclusion(analysis.study(members), members)


def test_what_cannot_be_judged_yet_counts_in_the_correction():
    """A look at a part of a study finds no more than the whole would of the same numbers."""
    whole, part = a_study(overlap=False), a_study(overlap=False)
    part = [member for member in part if not member.name.startswith("1 epoch") or member.name.endswith("0")]
    of_whole, of_part = (analysis.study(members) for members in (whole, part))
    assert len(of_whole.judged) == len(of_part.judged)
    for one, two in zip(of_whole.judged, of_part.judged, strict=True):
        assert two.p is None or two.p >= one.p - 1e-12
    refused = sum(verdict.p is None for verdict in of_part.judged)
    text = conclusion(of_part, part)
    assert f"{refused} of them could not be made yet" in text
    assert text.startswith("A larger mix is better than the smallest in 0 of 20 comparisons, and worse in 0.")


def test_family_wise_false_positives_of_the_whole_report():
    """1,000 studies of equal regimes and sizes: hardly more than 5% of the reports may hold any finding."""
    rng = np.random.default_rng(11)
    names = [f"{number}" for number in range(5)]

    def regime(budget, overlap, sizes):
        apart = {"train.budget": budget, "data.filters.overlap": overlap}
        made = analysis.Regime(apart, {}, f"{budget} {overlap}")
        for size in sizes:
            members = [Named(budget, overlap, size, name) for name in names]
            made.sizes[size] = Configuration({}, members)
        return made

    class Named:  # a result of which nothing but its name and seeds is asked
        def __init__(self, *parts):
            self.name = " ".join(map(str, parts))
            self.seeds = (int(parts[-1]), int(parts[-1]))

    regimes = [
        regime("60 steps", "remove", [100, 200, 300]),
        regime("1 epoch", "remove", [100, 200, 300]),
        regime("1 epoch", "keep", [300]),
    ]
    configurations = [configuration for made in regimes for configuration in made.sizes.values()]
    members = [member.name for configuration in configurations for member in configuration.results]
    wrong = 0
    for _ in range(1_000):
        scores = {}
        common = 0.2 * rng.standard_normal((4, 2, 1, 60))
        own = {}
        for name in members:
            luck = 0.02 * (rng.standard_normal((1, 1, 1, 1)) + rng.standard_normal((4, 1, 1, 1)))
            shared, alone = rng.standard_normal((4, 1, 2, 60)), rng.standard_normal((4, 2, 2, 60))
            own[name] = common + luck + 0.1 * (0.5**0.5 * shared + 0.5**0.5 * alone)
        for number, measure in enumerate(analysis.MEASURES):
            for place, task in enumerate(TASKS):
                scores[task, measure] = {name: own[name][place, number] for name in members}
            scores[analysis.AVERAGE, measure] = {name: own[name][:, number].mean(axis=0) for name in members}
        found = analysis.compare(regimes, scores)
        assert len(found) == 80
        wrong += any(v.words in ("better", "worse") for v in verdicts([c.result for c in found]))
    assert wrong / 1_000 <= 0.06


STUDY = (
    *("python", "-m", "scripts.study", "--sizes", "60", "90", "--replicates", "1"),
    *("--regime", "train.budget=1 epoch", "train.batch_size=50"),
)
NAMES = ["1-epoch-batch_size-50-60-0", "1-epoch-batch_size-50-90-0"]


def test_a_study_killed_half_way_goes_on(repo: Repo) -> None:
    repo.set_params({"plot.dpi": 41})  # a change that is not committed is a part of every cell
    before = (repo.path / "params.yaml").read_bytes()
    kept = repo.path / "kept.log"
    with kept.open("w") as file:
        process = subprocess.Popen(
            STUDY, cwd=repo.path, env=repo.env, stdout=file, stderr=file, start_new_session=True
        )
        wait_for(kept, "Running stage 'train'", process, after="[2/2] 1-epoch-batch_size-50-90-0 ...")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (repo.path / "params.yaml").read_bytes() == before
    done = repo.experiment(f"study-{NAMES[0]}")

    printed = repo.run(*STUDY).stdout
    assert [line for line in printed.splitlines() if line.startswith("[")] == [
        "[1/2] 1-epoch-batch_size-50-60-0: finished",
        "[2/2] 1-epoch-batch_size-50-90-0 ...",
    ]
    # Not mix: it was finished, which is what the run cache is for.
    assert "train" in ran(printed) and "mix" in from_cache(printed) and "mix" not in ran(printed)
    assert repo.experiment(f"study-{NAMES[0]}") == done
    assert (repo.path / "params.yaml").read_bytes() == before
    report = (repo.path / "study" / "report.md").read_text()
    assert "| base model |" in report and "nothing can be said: 1 replicate" in report
    with (repo.path / "study" / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    # Two whole steps of 50 rows; some of their rows twice.
    assert {row["data.size"]: row["distinct_rows_seen"] for row in table} == {"60": "60", "90": "90"}
    for name in NAMES:
        cell = repo.path / "study" / "cells" / name
        assert json.loads((cell / "params.yaml").read_text())["plot"]["dpi"] == 41
        written = {path.name for path in (cell / "metrics").iterdir()}
        assert written == {"mix.json", "train.json", "evaluate.json"}
        assert repo.json(f"study/cells/{name}/metrics/mix.json")["rows"] == int(name.split("-")[-2])

    # What was published makes the same report, without DVC's cache.
    files = {path: path.read_bytes() for path in (repo.path / "study").rglob("*") if path.is_file()}
    cells = [str(Path("study", "cells", name)) for name in reversed(NAMES)]
    repo.run("python", "-m", "scripts.study", "--from", *cells, "--out", "study")
    assert {path: path.read_bytes() for path in (repo.path / "study").rglob("*") if path.is_file()} == files
    scores = repo.path / cells[0] / "scores.jsonl.gz"
    assert b"prompt" not in gzip.decompress(scores.read_bytes())
    (repo.path / "study" / "cells" / "begun").mkdir()
    fault = repo.run("python", "-m", "scripts.study", "--from", *cells, "study/cells/begun", ok=False)
    assert "begun: left out, for it is not finished" in fault.stdout
    assert "study/cells: begun is not of this study" in fault.stderr
    (repo.path / "study" / "cells" / "begun").rmdir()
    scores.write_bytes(scores.read_bytes()[:500])
    fault = repo.run("python", "-m", "scripts.study", "--from", *cells, ok=False)
    assert fault.returncode == 1 and "its metrics or answers are damaged" in fault.stderr

    # Other code is another study; but what the change does not concern comes from the run cache.
    with (repo.path / "sft" / "plotting" / "pipeline.py").open("a") as file:
        file.write("# A remark.\n")
    fault = repo.run(*STUDY[:5], "9M", *STUDY[6:], "--out", "other", ok=False)
    printed = fault.stdout
    assert "[1/2] 1-epoch-batch_size-50-60-0 ..." in printed and "train" in from_cache(printed)
    assert fault.returncode == 1 and "1-epoch-batch_size-50-9M-0 failed, see above." in fault.stderr
