"""scripts.study in a real repository: killed, continued, published, and by other code."""

import csv
import gzip
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from scripts.study_runs import set_params
from sft.core.params import load
from stages.paths import BASE, EVALUATION, EXTRA, VALIDATION
from tests.pipeline_repo import Repo, from_cache, ran, wait_for
from tests.shortened import forget

STUDY = (
    *("python", "-m", "scripts.study", "--sizes", "60", "90", "--replicates", "1"),
    *("--condition", "train.budget=1 epoch", "train.batch_size=50"),
)
NAMES = ["1-epoch-batch_size-50-60-0", "1-epoch-batch_size-50-90-0"]


@pytest.mark.parametrize("value", ["proportional", {"a-b": 0.5, "recipes": 1}, "1 epoch", 3])
def test_a_param_is_replaced(tmp_path: Path, value: object) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("data: {weights: {recipes: 2, words: 1}}\n")
    apply_overrides(path, [text.removeprefix("--set-param=") for text in set_params("data.weights", value)])
    assert load(path) == {"data": {"weights": value}}


@pytest.mark.long
def test_a_study_killed_half_way_goes_on(repo: Repo) -> None:
    forget(repo, last="evaluate")  # a study draws its own figure
    repo.set_params({"train.max_refused": 0.5})  # a change that is not committed is a part of every run
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
    assert "| base model |" in report and "not judged (1 replicate, and 3 are needed)" in report
    with (repo.path / "study" / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    # Two whole steps of 50 rows; some of their rows twice, and by data.weights some not at all.
    assert {row["data.size"]: row["rows_seen"] for row in table} == {"60": "100", "90": "100"}
    assert all(0 < int(row["distinct_rows_seen"]) <= int(row["data.size"]) for row in table)
    for name in NAMES:
        run = repo.path / "study" / "runs" / name
        assert json.loads((run / "params.yaml").read_text())["train"]["max_refused"] == 0.5
        written = {path.name for path in (run / "metrics").iterdir()}
        assert written == {"mix.json", "train.json", "evaluate.json"}
        assert repo.json(f"study/runs/{name}/metrics/mix.json")["rows"] == int(name.split("-")[-2])

    # What was published makes the same report, without DVC's cache.
    files = {path: path.read_bytes() for path in (repo.path / "study").rglob("*") if path.is_file()}
    runs = [str(Path("study", "runs", name)) for name in reversed(NAMES)]
    repo.script("study", "--from", *runs, "--out", "study")
    assert {path: path.read_bytes() for path in (repo.path / "study").rglob("*") if path.is_file()} == files
    scores = repo.path / runs[0] / "scores" / "evaluate.csv.gz"
    assert gzip.decompress(scores.read_bytes()).startswith(b"base_model,task,example,run,")
    hashed = repo.json(f"{runs[0]}/inputs.json")["data"]
    assert hashed.keys() == {BASE, EXTRA, EVALUATION, VALIDATION}
    (repo.path / "study" / "runs" / "begun").mkdir()
    fault = repo.script("study", "--from", *runs, "study/runs/begun", ok=False)
    assert "begun: left out, for it is not finished" in fault.stdout
    assert "study/runs: begun is not of this study" in fault.stderr
    (repo.path / "study" / "runs" / "begun").rmdir()
    scores.write_bytes(scores.read_bytes()[:500])
    fault = repo.script("study", "--from", *runs, ok=False)
    assert fault.returncode == 1 and "evaluate.csv: cannot be read" in fault.stderr

    # Other code is another study; but what the change does not concern comes from the run cache.
    with (repo.path / "sft" / "mixing" / "mix.py").open("a") as file:
        file.write("# A remark.\n")
    fault = repo.run(*STUDY[:5], "9M", *STUDY[6:], "--out", "other", ok=False)
    printed = fault.stdout
    assert "[1/2] 1-epoch-batch_size-50-60-0 ..." in printed and "train" in from_cache(printed)
    assert fault.returncode == 1 and "1-epoch-batch_size-50-9M-0 failed, see above." in fault.stderr
