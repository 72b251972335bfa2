"""Training in two processes that share the rows of each step: one device's losses, and equal weights."""

import os
from dataclasses import asdict

import pytest
import torch

from sft.core.errors import ParamError, UserError
from sft.distributed.ranks import ALONE
from sft.training import micro_batches
from sft.training.checkpoints import Checkpoints, Interrupted
from sft.training.trackers import Reports
from sft.training.train import train
from tests.ranks import in_ranks
from tests.training.test_resume import DROPOUT, asked_at
from tests.training.test_train import LORA, params, random_rows, trainable

ROWS, VALIDATION = random_rows(32), random_rows(5, 1)
# Sums of float32 in another order: some units in the last place of losses near 6 (seen: 1e-6) and of weights
# of up to 0.3 (seen: 6e-8).
LOSS, WEIGHT = 5e-6, 1e-6


def run(ranks, base, checkpoints=None, lora=LORA, dtype="float32", reports=None, **changed):
    """Train 8 steps; return the losses and the LoRA's weights."""
    model, tokenizer = trainable(base, lora, dtype)
    changed = params(**{"steps": 8, "validation_every": 3, "lora": lora, **changed})
    logs = train(model, tokenizer, ROWS, VALIDATION, changed, dtype, checkpoints, ranks, reports)
    weights = {name: p.detach().numpy().copy() for name, p in model.named_parameters() if p.requires_grad}
    return asdict(logs), weights


def losses(logs):
    return [entry["loss"] for entry in [*logs["steps"], *logs["validation"]]]


def check_equal(one, two):
    """To the bit: losses, how steps are cut, and weights."""
    for name in ("steps", "validation", "micro_batch"):
        assert one[0][name] == two[0][name]
    assert all((one[1][name] == two[1][name]).all() for name in one[1])


def check_close(one, two):
    assert losses(one[0]) == pytest.approx(losses(two[0]), abs=LOSS)
    for name, weight in one[1].items():
        assert weight == pytest.approx(two[1][name], abs=WEIGHT), name


def in_one_spawn(ranks, base, folder):
    """Do all that is looked at below, in one rank; each entry is of `run`."""
    own = folder / str(ranks.rank)
    own.mkdir()
    reports = Reports(("tensorboard",), "run", {}, own / "reports", own, (own, own))
    done = {
        "plain": run(ranks, base, reports=reports),
        "environment": (os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"]),
    }
    done["16 bits"] = run(ranks, base, dtype="bfloat16")
    done["memory"] = out_of_memory(ranks, base)
    done["dropout"] = run(ranks, base, lora=DROPOUT)
    done["reported"] = (own / "reports").exists()
    # Only the second rank is asked to stop; both do, at the same step.
    for number in (6, 9):
        stopping = asked_at(number) if ranks.rank else lambda: False
        try:
            run(ranks, base, Checkpoints(own, stopping), DROPOUT)
        except Interrupted as at:
            done[f"stopped {number}"] = at.step, at.kept
    done["files"] = {path.name for path in own.glob("step-*/*")}
    torch.manual_seed(1234)
    done["resumed"] = run(ranks, base, Checkpoints(own), DROPOUT)
    try:
        ranks.check_equal([torch.ones(3) + ranks.rank])
    except UserError as error:
        done["unequal"] = str(error)
    return done


def out_of_memory(ranks, base):
    """Train where the second rank has memory for 50 tokens at a time only, by `auto`."""
    real, micro_batches.CPU_TOKENS = micro_batches.pack, 200

    def greedy(rows, *others):
        if ranks.rank and sum(len(row["input_ids"]) for row in rows) > 50:
            raise torch.OutOfMemoryError
        return real(rows, *others)

    from sft.training import packed_trainer

    packed_trainer.pack = greedy
    try:
        return run(ranks, base, micro_batch="auto")
    finally:
        packed_trainer.pack = real


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory):
    run(ALONE, tiny, steps=1)  # imports, once for both
    return in_ranks(in_one_spawn, tiny, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", ["plain", "16 bits", "memory", "dropout", "resumed"])
def test_the_ranks_are_equal_to_the_bit(done, name):
    check_equal(done[0][name], done[1][name])


def test_the_losses_and_the_adapter_are_those_of_one_device(done, tiny):
    alone = run(ALONE, tiny)
    check_close(alone, done[0]["plain"])
    assert len(losses(alone[0])) == 12


@pytest.mark.parametrize("name", ["dropout", "memory"])
def test_what_may_differ_from_one_device_does_so_a_little(done, tiny, name):
    """Dropout draws other numbers in the second rank; out of memory, steps are cut otherwise."""
    of_one = losses(run(ALONE, tiny)[0])
    assert losses(done[0][name][0]) == pytest.approx(of_one, abs=0.2 if name == "dropout" else LOSS)
    assert name == "memory" or losses(done[0][name][0]) != pytest.approx(of_one, abs=LOSS)


def test_16_bits_differ_by_their_rounding(done, tiny):
    alone = run(ALONE, tiny, dtype="bfloat16")
    assert losses(done[0]["16 bits"][0]) == pytest.approx(losses(alone[0]), abs=2e-2)


def test_out_of_memory_in_one_rank_halves_the_step_of_both(done):
    """And it says how often once for all; both then cut their steps alike."""
    of_steps = done[0]["memory"][0]["micro_batch"]
    assert of_steps["out_of_memory"] == 1 and of_steps["tokens"] <= 50


def test_one_rank_that_is_asked_to_stop_stops_both(done):
    assert done[0]["stopped 6"][0] == done[1]["stopped 6"][0] > 0
    assert done[0]["stopped 9"][0] == done[1]["stopped 9"][0] > done[0]["stopped 6"][0]
    # The first has kept the step, with both ranks' random numbers; the second's folder is a copy of it.
    assert done[0]["stopped 9"][1] == done[0]["stopped 9"][0]
    assert {"rng_state.pth", "rng_state-1.pth"} <= done[0]["files"] and not done[1]["files"]


def test_resumed_it_is_the_same_training_to_the_bit(done):
    """With the dropout of each rank."""
    check_equal(done[0]["dropout"], done[0]["resumed"])
    steps = [done[0][f"stopped {number}"][0] for number in (6, 9)]
    assert done[0]["resumed"][0]["resumed_at_steps"] == steps and steps[1] < 8


def test_ranks_that_come_apart_are_told_of(done):
    for of_rank in done:
        assert of_rank["unequal"].startswith("the devices have come to different weights")


def test_the_trainer_does_not_hide_the_ranks_from_what_follows(done):
    assert [of_rank["environment"] for of_rank in done] == [("2", "0"), ("2", "1")]


def test_devices_that_cannot_share_a_step():
    with pytest.raises(ParamError, match=r"^train\.devices: 5 devices cannot share the 4 rows of a step"):
        params(devices=5)
    with pytest.raises(ParamError, match=r"^train\.devices: unsloth trains on one device here, not on 2\. "):
        params(devices=2, engine="unsloth")


def test_the_first_rank_alone_reports(done):
    assert [of_rank["reported"] for of_rank in done] == [True, False]
