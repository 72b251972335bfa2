"""A training that is stopped, or killed, and goes on: to the bit the one that was not."""

import itertools
import json
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sft.core import files
from sft.training import checkpoints as checkpoints_module
from sft.training import cuda_graphs, micro_batches
from sft.training.checkpoints import Checkpoints, Interrupted
from sft.training.train import train
from tests.training.test_train import LORA, params, random_rows, trainable

ROWS, VALIDATION = random_rows(32), random_rows(4, 1)
DROPOUT = LORA.model_copy(update={"dropout": 0.2})


class Killed(BaseException):
    """What no code of ours catches: the process is gone."""


def run(tiny, dtype="float32", checkpoints=None, lora=LORA, **changed):
    """Train 8 steps; return the LoRA's weights and the logs."""
    Step.done = 0
    model, tokenizer = trainable(tiny, lora, dtype)
    changed = params(**{"steps": 8, "validation_every": 3, "lora": lora, **changed})
    logs = train(model, tokenizer, ROWS, VALIDATION, changed, dtype, checkpoints)
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}, logs


def disturb():
    """Leave the random numbers as another process would have them."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1234)


def asked_at(number):
    """Make a `stopping` that says yes from the time on that it is asked for the n-th time."""
    asked = itertools.count(1)
    return lambda: next(asked) >= number


def interrupted(tiny, folder, stopping, **options):
    disturb()
    with pytest.raises(Interrupted) as caught:
        run(tiny, checkpoints=Checkpoints(folder, stopping), **options)
    return caught.value


def same(one, two):
    (weights, logs), (other_weights, other_logs) = one, two
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert logs.steps == other_logs.steps and logs.validation == other_logs.validation
    micro_batch = {**logs.micro_batch, "graphs": 0}
    assert micro_batch == {**other_logs.micro_batch, "graphs": 0}


class Step:
    """How many steps have been made, which is counted by the trainer's callbacks."""

    done = 0


def stops(step):
    """Make a `stopping` that says yes from the end of a step on."""
    return lambda: Step.done >= step


@pytest.fixture(autouse=True)
def count_steps(monkeypatch):
    from transformers.trainer_callback import CallbackHandler

    real = CallbackHandler.on_step_end

    def counted(self, args, state, control):
        Step.done = state.global_step
        return real(self, args, state, control)

    monkeypatch.setattr(CallbackHandler, "on_step_end", counted)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float32", {"lora": DROPOUT, "lr_scheduler": "cosine", "warmup_steps": 3}),
        ("bfloat16", {"lora": DROPOUT, "micro_batch": "auto"}),
        ("bfloat16", {"micro_batch": 1, "gradient_checkpointing": True}),
    ],
)
def test_stopped_twice_it_is_the_same_training(tiny, tmp_path, dtype, options, capsys):
    """At step 2, at step 3, whose validation it leaves to the next run, and at the last."""
    whole = run(tiny, dtype, **options)
    for number, step in enumerate((2, 3, 8)):
        at = interrupted(tiny, tmp_path, stops(step), dtype=dtype, **options)
        assert (at.step, at.steps, at.kept) == (step, 8, step)
        said = capsys.readouterr()
        assert ("going on from step" in said.out) == (number > 0)
        assert "warning" not in said.err  # as of a checkpoint that is written twice
    disturb()
    resumed = run(tiny, dtype, Checkpoints(tmp_path), **options)
    assert "going on from step 8 of 8 (checkpoint of " in capsys.readouterr().out
    same(whole, resumed)
    logs = resumed[1]
    assert logs.resumed_at_steps == [2, 3, 8] and whole[1].resumed_at_steps == []
    assert [entry["step"] for entry in logs.validation] == [0, 3, 6, 8]
    assert len(logs.step_seconds) == 8 and logs.seconds_before >= sum(logs.step_seconds) > 0


def test_killed_it_goes_on_from_the_last_checkpoint(tiny, tmp_path, monkeypatch):
    """With everything after it lost: saving every step, killed while it saves step 5."""
    whole = run(tiny, lora=DROPOUT)
    real = Path.replace

    def dies(self, target):
        if self.name == "step-00000005.partial":
            raise Killed
        return real(self, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", dies)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a process that is gone cleans nothing up
        run(tiny, checkpoints=Checkpoints(tmp_path, interval=0), lora=DROPOUT)
    assert (tmp_path / "step-00000005.partial" / "manifest.json").exists()
    disturb()
    resumed = run(tiny, checkpoints=Checkpoints(tmp_path, interval=0), lora=DROPOUT)
    same(whole, resumed)
    assert resumed[1].resumed_at_steps == [4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000007", "step-00000008"]


def test_captured_passes_go_on_too(tiny, tmp_path, monkeypatch):
    """What a run captures is measured; the next one takes it from the checkpoint, with how steps are cut."""
    monkeypatch.setattr(cuda_graphs, "capturable_tokens", lambda *_: 128)
    monkeypatch.setattr(micro_batches, "CPU_TOKENS", 260)
    whole = run(tiny, micro_batch="auto")
    interrupted(tiny, tmp_path, stops(4), micro_batch="auto")
    monkeypatch.setattr(cuda_graphs, "capturable_tokens", lambda *_: 0)
    monkeypatch.setattr(micro_batches, "CPU_TOKENS", 40)
    resumed = run(tiny, checkpoints=Checkpoints(tmp_path), micro_batch="auto")
    same(whole, resumed)
    assert resumed[1].micro_batch["captured_tokens"] == 128 and resumed[1].micro_batch["tokens"] == 132


def test_out_of_memory_before_is_not_forgotten(tiny, tmp_path, monkeypatch):
    """A step halved before the stop stays halved, whose graphs are no longer captured."""
    monkeypatch.setattr(cuda_graphs, "capturable_tokens", lambda *_: 128)
    real, failed = cuda_graphs.GraphRunner.run, []

    def greedy(self, rows, factor):
        if Step.done == 2 and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError
        return real(self, rows, factor)

    monkeypatch.setattr(cuda_graphs.GraphRunner, "run", greedy)
    whole = run(tiny, micro_batch="auto")
    failed.clear()
    interrupted(tiny, tmp_path, stops(4), micro_batch="auto")
    resumed = run(tiny, checkpoints=Checkpoints(tmp_path), micro_batch="auto")
    same(whole, resumed)
    assert resumed[1].micro_batch["out_of_memory"] == 1


def test_stopped_before_its_first_step_it_keeps_nothing(tiny, tmp_path):
    for number in (1, 2):  # where training begins, and in its first validation
        at = interrupted(tiny, tmp_path, asked_at(number))
        assert (at.step, at.kept) == (0, None) and not list(tmp_path.iterdir())
    interrupted(tiny, tmp_path, stops(3))
    at = interrupted(tiny, tmp_path, asked_at(2))  # in the validation that the run before has left
    assert (at.step, at.kept) == (3, 3)


@pytest.fixture
def two(tmp_path):
    """Return a folder with checkpoints of the steps 2 and 3."""
    kept = Checkpoints(tmp_path / "kept")
    for step in (1, 2, 3):
        kept.save(progress(step), lambda folder: (folder / "weights").write_bytes(b"w" * 1000) and None)
    return kept.folder


def progress(step):
    return checkpoints_module.Progress(step, 9, 1.7e9, 3.0, [0.5] * step, [], {"limit": 7}, 0)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a bit": lambda folder: flip(folder / "weights"),
    "cut off": lambda folder: (folder / "weights").write_bytes(b"w" * 999),
    "empty": lambda folder: (folder / "weights").write_bytes(b""),
    "a file is gone": lambda folder: (folder / "weights").unlink(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "an empty manifest": lambda folder: (folder / "manifest.json").write_text(""),
    "a manifest of nothing": lambda folder: (folder / "manifest.json").write_text("{}"),
    "a manifest of something else": lambda folder: (folder / "manifest.json").write_text("[3]"),
    "a bit of the manifest": lambda folder: flip(folder / "manifest.json"),
    "a bit of the progress": lambda folder: flip(folder / "progress.json"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(damage, two, capsys):
    DAMAGE[damage](two / "step-00000003")
    found = Checkpoints(two).newest()
    assert found and found == (two / "step-00000002", progress(2))
    said = capsys.readouterr().err
    assert said.startswith(f"warning: the checkpoint {two / 'step-00000003'} is damaged, and is left out: ")
    assert said.count("\n") == 1 and not (two / "step-00000003").exists()


def test_with_both_damaged_training_begins_anew(two, capsys):
    for path in two.iterdir():
        flip(path / "weights")
    assert Checkpoints(two).newest() is None
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and said[2] == "warning: no other checkpoint is left: training begins anew"


def test_a_damaged_checkpoint_in_training(tiny, tmp_path, capsys):
    whole = run(tiny, lora=DROPOUT)
    with pytest.raises(Interrupted):
        run(tiny, checkpoints=Checkpoints(tmp_path, stops(5), interval=0), lora=DROPOUT)
    flip(tmp_path / "step-00000005" / "optimizer.pt")
    disturb()
    resumed = run(tiny, checkpoints=Checkpoints(tmp_path), lora=DROPOUT)
    same(whole, resumed)
    assert resumed[1].resumed_at_steps == [4] and "optimizer.pt is not what" in capsys.readouterr().err


def test_two_are_kept_and_what_is_half_written_goes(two):
    assert sorted(path.name for path in two.iterdir()) == ["step-00000002", "step-00000003"]
    (two / "step-00000004.partial").mkdir()
    kept = Checkpoints(two)
    found = kept.newest()
    assert found and found[1].step == kept.last == 3 and len(list(two.iterdir())) == 2
    kept.clear()
    assert not list(two.iterdir())


@pytest.mark.parametrize("where", ["write", "manifest"])
def test_a_full_disk_costs_a_warning_and_not_the_run(where, two, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    kept = Checkpoints(two)
    with monkeypatch.context() as patch:
        if where == "manifest":
            patch.setattr(checkpoints_module, "sha256_of", full)
        kept.save(progress(4), full if where == "write" else lambda folder: None)
    said = capsys.readouterr().err
    assert said.startswith(f"warning: the checkpoint {two / 'step-00000004'} cannot be written: ")
    assert said.endswith("No space left on device. Training goes on without it.\n")
    found = kept.newest()
    assert found and found[1].step == 3 and len(list(two.iterdir())) == 2


def test_when_the_next_one_is_due(tmp_path, monkeypatch):
    """Every minute, and never so often that saving takes more than a fiftieth of the time."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    kept = Checkpoints(tmp_path, _since=1000.0)

    def due_after():
        since = now[0]
        while not kept.due():
            now[0] += 1
        return now[0] - since

    def take(seconds):
        def write(folder):
            now[0] += seconds

        return write

    assert due_after() == 60
    kept.save(progress(1), take(1.0))
    assert due_after() == 60
    kept.save(progress(2), take(10.0))
    assert due_after() == 490  # 10 of 500 seconds
    often = replace(kept, interval=5.0)
    often.save(progress(3), take(10.0))
    now[0] += 5
    assert often.due()


def test_nothing_in_a_checkpoint_is_unpickled(tiny, tmp_path, monkeypatch):
    """What a pickle could run is not: the trainer reads all of it as weights only."""
    interrupted(tiny, tmp_path, stops(2))
    (folder,) = tmp_path.iterdir()
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "manifest.json",
        "optimizer.pt",
        "progress.json",
        "rng_state.pth",
        "scheduler.pt",
        "trained.safetensors",
        "trainer_state.json",
    }

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "run",)

    torch.save({"state": Evil()}, folder / "optimizer.pt")
    hashes = json.loads((folder / "manifest.json").read_text())
    hashes["optimizer.pt"] = files.sha256_of(folder / "optimizer.pt")
    (folder / "manifest.json").write_text(json.dumps(hashes))
    with pytest.raises(Exception, match=r"[Ww]eights"):
        run(tiny, checkpoints=Checkpoints(tmp_path))
    assert not (tmp_path / "run").exists()
