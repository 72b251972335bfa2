"""Reporting to experiment trackers, each read back by its own means: what came there, and what it changed.

One training reports to all of them, is stopped half-way, and goes on.
"""

import json
import os
import shutil
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sft.core.errors import UserError
from sft.training import reporter, trackers
from sft.training.callbacks import CurveFiles
from sft.training.checkpoints import Checkpoints, Interrupted
from sft.training.logs import Logs
from sft.training.reporter import Pace, Reporter
from sft.training.trackers import Reports
from sft.training.train import train
from tests import mlflow_server, pipeline_repo
from tests.training.test_resume import DROPOUT, ROWS, VALIDATION
from tests.training.test_train import params, trainable

PARAMS = {"model.reference": "tiny", "train.learning_rate": 0.01, "train.lora.target_modules": ["q_proj"]}
LOSS, VALIDATION_LOSS = Path("plots/train_loss.csv"), Path("plots/validation_loss.csv")
STOPPED = 5
PIPELINE = f"""stages:
  train:
    cmd: "true"
    plots: [{{{LOSS}: {{cache: false}}}}, {{{VALIDATION_LOSS}: {{cache: false}}}}]
plots:
  - loss: {{x: step, y: {{{LOSS}: loss, {VALIDATION_LOSS}: loss}}}}
"""


def reports(*names: str, folder: Path = Path("trackers")) -> Reports:
    return Reports(names, "exp-a", PARAMS, folder, Path("dvclive"), (LOSS, VALIDATION_LOSS))


def run(tiny: Any, to: Reports | None = None, checkpoints: Checkpoints | None = None) -> Any:
    """Train with dropout, which shows whether any random number has been drawn; return weights and logs."""
    model, tokenizer = trainable(tiny, DROPOUT)
    changed = params(steps=8, validation_every=3, lora=DROPOUT)
    logs = train(model, tokenizer, ROWS, VALIDATION, changed, "float32", checkpoints, reports=to)
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}, logs


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@dataclass
class Reported:
    """A repository with what one training has reported, and what came of that one and of one that did not."""

    repo: pipeline_repo.Repo
    server: str
    log: Path
    weights: dict[str, torch.Tensor]
    unreported: dict[str, torch.Tensor]
    logs: Logs
    said: str
    shown: dict[str, list[tuple[int, float]]]
    changed: str

    def losses(self) -> list[tuple[int, float]]:
        return [(entry["step"], entry["loss"]) for entry in self.logs.steps]

    def validation(self) -> list[tuple[int, float]]:
        return [(entry["step"], entry["loss"]) for entry in self.logs.validation]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server.started(folder) as address:
        yield SimpleNamespace(address=address, folder=folder)


@pytest.fixture(scope="module")
def reported(tiny: Any, server: Any, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    path = tmp_path_factory.mktemp("reported") / "repo"
    (path / "plots").mkdir(parents=True)
    (path / "dvc.yaml").write_text(PIPELINE)
    for name in (".gitignore", ".dvc/config", ".dvc/.gitignore"):
        (path / name).parent.mkdir(exist_ok=True)
        shutil.copy(pipeline_repo.ROOT / name, path / name)
    repo = pipeline_repo.Repo(path, path.parent / "wheels")
    repo.git("init", "--quiet", "--initial-branch", "main")
    repo.commit("pipeline")
    unreported, _ = run(tiny)

    with pytest.MonkeyPatch.context() as patch:
        for name in [
            name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "DVC_", "TENSORBOARD_"))
        ]:
            patch.delenv(name)
        patch.setenv("MLFLOW_TRACKING_URI", server.address)
        patch.setenv("WANDB_MODE", "offline")
        patch.setattr(CurveFiles, "EVERY", 0.0)
        patch.chdir(path)
        out = path.parent / "out"
        with out.open("w") as file:
            patch.setattr(sys, "stdout", file)
            folder = Path(".dvc/tmp/trackers")
            every = reports(*trackers.TRACKERS, folder=folder)

            shown: dict[str, list[tuple[int, float]]] = {}
            told: list[int] = []  # of which steps the loss has been handed on
            written = threading.Event()  # the files of the curves, with those steps
            pace, write = Pace.of, CurveFiles.write

            def of(self: Pace, step: int) -> dict[str, float]:
                told.append(step)
                return pace(self, step)

            def write_and_say(self: CurveFiles, history: list[dict[str, Any]]) -> None:
                write(self, history)
                if [entry["step"] for entry in history if "loss" in entry][-1:] == [STOPPED - 1]:
                    written.set()

            patch.setattr(Pace, "of", of)
            patch.setattr(CurveFiles, "write", write_and_say)

            def stopping() -> bool:
                """Ask to stop after the step that follows those in the curve that dvc.yaml lists.

                The one before has been reported to each tracker, whose thread may not be that far.
                """
                if told[-1:] != [STOPPED - 1]:
                    return False
                assert written.wait(100)
                shown.update(shown or plots(repo))
                return True

            with pytest.raises(Interrupted) as interrupted:
                run(tiny, every, Checkpoints(path.parent / "kept", stopping))
            assert interrupted.value.step == STOPPED
            weights, logs = run(tiny, every, Checkpoints(path.parent / "kept"))
        assert not {"WANDB_WATCH", "MLFLOW_HTTP_REQUEST_TIMEOUT"} & set(os.environ)
    changed = repo.git("status", "--porcelain", "--untracked-files=all")
    said = out.read_text()
    return Reported(repo, server.address, out, weights, unreported, logs, said, shown, changed)


def plots(repo: pipeline_repo.Repo, *arguments: str) -> dict[str, list[tuple[int, float]]]:
    """Return the points that `dvc plots show` draws, by the plot's name."""
    printed = json.loads(repo.run("dvc", "plots", "show", "--json", *arguments).stdout)
    assert "errors" not in printed
    drawn = {name: plot for name, plot in printed["data"].items() if not name.endswith(".csv")}
    values = {name: plot[0]["content"]["data"]["values"] for name, plot in drawn.items()}
    number = {name: Path(name).stem if name.endswith(".tsv") else "loss" for name in values}
    return {name: [(int(v["step"]), float(v[number[name]])) for v in values[name]] for name in values}


def test_reporting_changes_nothing_of_the_training(reported):
    assert same(reported.weights, reported.unreported)
    assert reported.logs.resumed_at_steps == [STOPPED]


def test_it_says_where_to_look(reported):
    lines = [line.split(":")[0] for line in reported.said.splitlines() if line.startswith("report")]
    assert lines[:4] == [f"report      {name}" for name in trackers.TRACKERS]
    assert lines[4:] == [f"report on   {name}" for name in trackers.TRACKERS]
    assert f"report      mlflow: {reported.server}, experiment 0, run exp-a (" in reported.said


def test_tensorboard(reported):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (reported.repo.path / ".dvc/tmp/trackers/tensorboard").iterdir()
    assert folder.name == "exp-a"
    read = EventAccumulator(str(folder)).Reload()

    def scalars(name: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in read.Scalars(name)]

    assert dict(scalars("train/loss")) == pytest.approx(dict(reported.losses()))
    assert dict(scalars("eval/loss")) == pytest.approx(dict(reported.validation()))
    rates = {entry["step"]: entry["learning_rate"] for entry in reported.logs.steps}
    assert dict(scalars("train/learning_rate")) == pytest.approx(rates)
    assert len(scalars("train/loss")) == 8
    tokens = [sum(len(row["input_ids"]) for row in ROWS[4 * step : 4 * step + 4]) for step in range(8)]
    taken = [
        count / speed for count, (_, speed) in zip(tokens, scalars("train/tokens_per_second"), strict=True)
    ]
    assert taken == pytest.approx(reported.logs.step_seconds, rel=0.01, abs=1e-4)
    assert all(0.05 < memory < 100 for _, memory in scalars("train/memory_gib"))
    assert json.loads(read.Tensors("args/text_summary")[0].tensor_proto.string_val[0]) == PARAMS


def test_mlflow(reported):
    from mlflow import MlflowClient

    client = MlflowClient(reported.server)
    (found,) = client.search_runs(["0"])  # one run, though training was stopped
    assert found.info.run_name == "exp-a" and found.info.status == "FINISHED"
    assert found.data.params == {name: str(value) for name, value in PARAMS.items()}

    def history(name: str) -> list[tuple[int, float]]:
        return sorted(
            (metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, name)
        )

    assert history("loss") == reported.losses()
    assert history("eval_loss") == reported.validation()
    assert len(history("tokens_per_second")) == len(history("memory_gib")) == 8


def test_wandb_offline(reported):
    """Two folders, one run: what `wandb sync --append` makes one of."""
    folders = sorted((reported.repo.path / ".dvc/tmp/trackers/wandb").glob("offline-run-*"))
    assert len(folders) == 2 and len({folder.name.rsplit("-", 1)[1] for folder in folders}) == 1
    losses, config = [], {}
    for folder in folders:
        for record in wandb_records(next(folder.glob("*.wandb"))):
            items = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            if "train/loss" in items:
                losses.append((items["train/global_step"], items["train/loss"]))
            if record.run.display_name:
                assert record.run.display_name == "exp-a"
            config |= {item.key: json.loads(item.value_json) for item in record.config.update if item.key}
    assert losses == reported.losses()
    assert config.items() >= PARAMS.items()


def wandb_records(path: Path) -> list[Any]:
    """Read W&B's file: records of its protocol in LevelDB's log format, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, part, records = path.read_bytes(), 7, b"", []
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        part += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            records.append(Record.FromString(part))
            part = b""
    return records


def test_dvc_shows_the_run_while_it_trains(reported):
    """By the curves that dvc.yaml lists anyway, and which the extension for VS Code therefore draws."""
    steps = [point for point in reported.losses() if point[0] < STOPPED]
    validated = [point for point in reported.validation() if point[0] < STOPPED]
    (points,) = reported.shown.values()
    assert sorted(points) == sorted(steps + validated)


def test_dvclive(reported):
    """Its files can be drawn, and are all that there is: no dvc.yaml, no experiment, nothing for Git."""
    folder = reported.repo.path / "dvclive"
    drawn = plots(reported.repo, "-x", "step", "dvclive/plots/metrics")
    assert drawn["dvclive/plots/metrics/loss.tsv"] == reported.losses()
    assert drawn["dvclive/plots/metrics/eval/loss.tsv"] == reported.validation()
    assert {"dvclive/plots/metrics/tokens_per_second.tsv", "dvclive/plots/metrics/memory_gib.tsv"} <= set(
        drawn
    )
    assert json.loads((folder / "metrics.json").read_text())["loss"] == reported.logs.steps[-1]["loss"]
    assert "train.learning_rate: 0.01" in (folder / "params.yaml").read_text()
    assert not list(folder.rglob("dvc.yaml")) and reported.repo.git("for-each-ref", "refs/exps") == ""
    assert reported.changed.split() == ["??", str(LOSS), "??", str(VALIDATION_LOSS)]  # which the stage writes
    # Where DVC's extension looks for a sign that a step is done; at the end there is none.
    assert (reported.repo.path / ".dvc/tmp/exps/run").is_dir()
    assert not (reported.repo.path / ".dvc/tmp/exps/run/DVCLIVE_STEP_COMPLETED").exists()


def test_mlflow_without_a_server(tiny, tmp_path, monkeypatch, server, reported):
    """It writes into a database of its own, here an old one: MLflow takes seconds to make one."""
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trackers/mlflow").mkdir(parents=True)
    shutil.copy(server.folder / "mlflow.db", "trackers/mlflow")
    run(tiny, reports("mlflow"))
    old = {found.info.run_id for found in MlflowClient(reported.server).search_runs(["0"])}
    runs = MlflowClient(f"sqlite:///{tmp_path}/trackers/mlflow/mlflow.db").search_runs(["0"])
    (new,) = [found for found in runs if found.info.run_id not in old]
    assert new.data.metrics["loss"] == reported.losses()[-1][1] and new.info.status == "FINISHED"
    assert [path.name for path in tmp_path.iterdir()] == ["trackers"]


def test_a_server_that_is_down(tiny, reported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with mlflow_server.nobody() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:pass-word@{address}")
        weights, _ = run(tiny, reports("mlflow", "tensorboard"))
    said = capsys.readouterr()
    assert same(weights, reported.unreported)
    (warning,) = [line for line in said.err.splitlines() if line.startswith("warning")]
    assert warning.startswith(f"warning: mlflow: API request to http://****@{address}/")
    assert warning.endswith("(training goes on without it).") and "pass-word" not in said.err + said.out
    assert "report      tensorboard: trackers/tensorboard/exp-a;" in said.out


def test_a_server_that_refuses_what_is_reported(tiny, reported, tmp_path, monkeypatch, capsys):
    """MLflow sends from a thread of its own: what fails there is said once, and at once for all of it."""
    monkeypatch.chdir(tmp_path)
    with mlflow_server.refusing() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        weights, _ = run(tiny, reports("mlflow"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line or "ERROR" in line]
    assert len(warnings) == 1 and "warning: mlflow: " in warnings[0]
    assert "the quota is used up" in warnings[0]
    assert same(weights, reported.unreported)


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    calls = []

    class Full:
        def on_train_begin(self, *_: Any) -> None:
            calls.append("begin")

        def on_log(self, *_: Any, **__: Any) -> None:
            calls.append("log")
            raise OSError(28, "No space left on device")

    begun = trackers.Begun(Full(), "1", "nowhere", lambda finished: calls.append(f"end {finished}"))
    monkeypatch.setitem(trackers.TRACKERS, "full", lambda *_: begun)
    run(tiny, reports("full", "tensorboard"))
    assert calls == ["begin", "log", "end True"]
    assert capsys.readouterr().err.count("warning: full: [Errno 28] No space left on device") == 1
    assert list(tmp_path.glob("trackers/tensorboard/exp-a/events.*"))


@dataclass
class Slow:
    """A tracker that, once it is told of the first step, takes until it is let go."""

    steps: list[int]
    told: threading.Event
    let_go: threading.Event

    def on_train_begin(self, *_: Any) -> None:
        pass

    def on_log(self, _args: Any, state: Any, *_: Any, logs: dict[str, float]) -> None:
        if "loss" in logs:
            self.told.set()
            # Not for ever: told in the training's own thread, it would wait for itself.
            self.let_go.wait(5 if threading.current_thread() is threading.main_thread() else 100)
            self.steps.append(state.global_step)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    monkeypatch.chdir(tmp_path)
    tracker = Slow([], threading.Event(), threading.Event())
    begun = trackers.Begun(tracker, "1", "nowhere", lambda finished: tracker.steps.append(-int(finished)))
    monkeypatch.setitem(trackers.TRACKERS, "slow", lambda *_: begun)
    yield tracker
    tracker.let_go.set()


def test_a_tracker_takes_none_of_a_steps_time(tiny, slow, monkeypatch):
    """It is let go when the last step has been made; then it is told of each, as it was then."""
    before = []

    def of(_: Pace, step: int) -> dict[str, float]:
        if step == 8:
            before.extend(slow.steps)
            slow.let_go.set()
        return {}

    monkeypatch.setattr(Pace, "of", of)
    _, logs = run(tiny, reports("slow"))
    assert before == [] and slow.steps == [1, 2, 3, 4, 5, 6, 7, 8, -1]
    assert logs.reporting_seconds > 0


def test_a_tracker_that_hangs_does_not_keep_the_training(tiny, reported, slow, monkeypatch, capsys):
    """It is given up at the third step."""
    told = []

    def of(_: Pace, step: int) -> dict[str, float]:
        if step == 2:
            told.append(slow.told.wait(100))
        if step == 3:
            monkeypatch.setattr(reporter, "PATIENCE", 0.0)
        return {}

    monkeypatch.setattr(Pace, "of", of)
    weights, logs = run(tiny, reports("slow"))
    assert told == [True]
    assert slow.steps == [] and same(weights, reported.unreported) and len(logs.steps) == 8
    said = capsys.readouterr().err
    assert said.count("warning: slow: it is 0 s behind (training goes on without it).") == 1


def test_a_tracker_that_hangs_at_the_last_step(tiny, slow, monkeypatch, capsys):
    """It is told of no step that it has not been told yet, and that is said."""
    end = Reporter._end

    def without_patience(self: Reporter, finished: bool) -> None:
        slow.told.wait(100)
        monkeypatch.setattr(reporter, "PATIENCE", 0.0)
        end(self, finished)
        slow.let_go.set()
        ended.append(self._begun["slow"].thread)

    ended: list[Any] = []
    monkeypatch.setattr(Reporter, "_end", without_patience)
    run(tiny, reports("slow"))
    assert "warning: slow: it is 0 s behind (it lacks the last steps)." in capsys.readouterr().err
    for _ in range(1000):  # its thread makes the calls that are left
        if not ended[0].behind():
            break
        threading.Event().wait(0.01)
    assert slow.steps == [1, -1]


def test_a_tracker_that_does_not_begin(tiny, tmp_path, monkeypatch, capsys, reported):
    monkeypatch.chdir(tmp_path)
    over, ended = threading.Event(), threading.Event()
    late = trackers.Begun(None, "1", "nowhere", lambda finished: ended.set() if not finished else None)
    monkeypatch.setitem(trackers.TRACKERS, "stuck", lambda *_: late if over.wait(100) else None)
    monkeypatch.setattr(reporter, "PATIENCE", 0.0)
    weights, _ = run(tiny, reports("stuck"))
    assert not ended.is_set()
    over.set()
    assert ended.wait(100)  # the run that it has begun too late
    assert same(weights, reported.unreported)
    assert "warning: stuck: it has not begun within 0 s (training goes on" in capsys.readouterr().err


def test_a_tracker_that_does_not_end(tiny, tmp_path, monkeypatch, capsys, reported):
    monkeypatch.chdir(tmp_path)
    over = threading.Event()
    quiet = SimpleNamespace(on_train_begin=lambda *_: None, on_log=lambda *_, logs: None)
    begun = trackers.Begun(quiet, "1", "nowhere", lambda _: over.wait(100))
    monkeypatch.setitem(trackers.TRACKERS, "stuck", lambda *_: begun)
    end = Reporter._end

    def without_patience(self: Reporter, finished: bool) -> None:
        self._begun["stuck"].thread.ask(lambda: None).result(100)  # it has been told of all
        monkeypatch.setattr(reporter, "PATIENCE", 0.0)
        end(self, finished)

    monkeypatch.setattr(Reporter, "_end", without_patience)
    weights, _ = run(tiny, reports("stuck"))
    over.set()
    assert same(weights, reported.unreported)
    assert "warning: stuck: it has not ended within 0 s (it may lack some steps)." in capsys.readouterr().err


def test_what_cannot_be_measured_is_not_reported(tiny, tmp_path, monkeypatch, capsys, reported):
    monkeypatch.chdir(tmp_path)

    def of(*_: Any) -> dict[str, float]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Pace, "of", of)
    weights, _ = run(tiny, reports("tensorboard"))
    assert same(weights, reported.unreported)
    warning = (
        "warning: tokens_per_second, memory_gib: [Errno 24] Too many open files (they are not reported)."
    )
    assert capsys.readouterr().err.count(warning) == 1
    assert list(tmp_path.glob("trackers/tensorboard/exp-a/events.*"))


def test_two_runs_of_a_name_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "own"))
    for _ in range(2):
        trackers.begin("tensorboard", reports("tensorboard", folder=tmp_path), None, 0).end(True)
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"exp-a", "exp-a-2"}


def test_unknown_and_missing_trackers(tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"'comet' is no tracker. There are tensorboard, mlflow, wandb, dvclive."
    ):
        trackers.check(("wandb", "comet"))
    monkeypatch.setitem(trackers.TRACKERS, "nowhere", trackers.wandb)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nowhere").mkdir()  # as dvclive/ and wandb/, which trackers write, are no packages
    with pytest.raises(UserError, match=r"nowhere is not installed.*requirements-trackers.txt"):
        trackers.check(("nowhere",))
