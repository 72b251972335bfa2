"""Training in two processes that share the rows of each step: one device's losses, and equal weights."""

import os
from dataclasses import asdict

import pytest
import torch

from sft.core.errors import ParamError, UserError
from sft.distributed.ranks import ALONE
from sft.training import micro_batches
from sft.training.checkpoints import Checkpoints, Interrupted
from sft.training.train import train
from tests.ranks import in_ranks
from tests.training.test_resume import DROPOUT, asked_at
from tests.training.test_train import LORA, loss_tokens, params, random_rows, trainable

ROWS, VALIDATION = random_rows(32), random_rows(5, 1)
# Sums of float32 in another order: a few units in the last place of a loss near 5, and what they become in
# eight steps of AdamW, whose first ones divide small gradients by themselves.
LOSS, WEIGHT = 5e-6, 2e-4


def run(ranks, base, checkpoints=None, lora=LORA, dtype="float32", **changed):
    """Train 8 steps; return the losses and the LoRA's weights."""
    model, tokenizer = trainable(base, lora, dtype)
    changed = params(**{"steps": 8, "validation_every": 3, "lora": lora, **changed})
    logs = train(model, tokenizer, ROWS, VALIDATION, changed, dtype, checkpoints, ranks)
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
    done = {"plain": run(ranks, base), "environment": (os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"])}
    done["16 bits"] = run(ranks, base, dtype="bfloat16")
    done["memory"] = out_of_memory(ranks, base)
    done["dropout"] = run(ranks, base, lora=DROPOUT)
    own = folder / str(ranks.rank)
    own.mkdir()
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
