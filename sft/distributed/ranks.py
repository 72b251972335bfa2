"""The processes that share a stage's work, one a device: who this one is, and what they tell each other.

They are called ranks, as in torch.distributed, whose collective operations all of this is. Every rank has to
come to each of them, in the same order. Alone, with one rank, each of them returns at once what it was given.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import xxhash

from sft.core.errors import UserError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
# A rank that has answered its share waits for the others. It need not wait for one that is gone: that shows.
PATIENCE = timedelta(days=1)


class PeerLost(Exception):
    """Another rank does not answer any more: it has ended, and says itself why."""


@dataclass(frozen=True)
class Ranks:
    """This process is `rank` of `count`, from 0 on, and on its host the one of the number `local_rank`."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Tell whether this is the rank that prints, and writes what the stage writes."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Tell of each flag whether it is set in any rank."""
        if self.count == 1:
            return flags
        import torch

        numbers = torch.tensor(flags, dtype=torch.int32)
        self.add(numbers)
        return tuple(bool(number) for number in numbers.tolist())

    def least(self, number: int) -> int:
        """Return the least of the ranks' numbers."""
        return min(self.gather(number))

    def add(self, tensor: "torch.Tensor") -> None:
        """Add up the ranks' tensors, in place: afterwards all of them are the same, to the bit."""
        if self.count > 1:
            from torch import distributed

            with _all_there():
                distributed.all_reduce(tensor)

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, which is pickled on the way, by rank."""
        if self.count == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.count
        with _all_there():
            distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: T) -> T:
        """Return the value of rank 0, which is pickled on the way."""
        if self.count == 1:
            return value
        from torch import distributed

        values: list[Any] = [value]
        with _all_there():
            distributed.broadcast_object_list(values, src=0)
        return values[0]

    def check_equal(self, tensors: "list[torch.Tensor]") -> None:
        """Raise UserError unless all ranks have the same tensors, to the bit."""
        if self.count == 1:
            return
        import torch

        content = xxhash.xxh3_128()
        for tensor in tensors:
            content.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        if len(set(self.gather(content.hexdigest()))) > 1:
            raise UserError(
                "the devices have come to different weights, which the same gradients cannot lead to: one of "
                "them computes wrongly. Run again, on others or with train.devices: 1."
            )


ALONE = Ranks()


def join() -> Ranks:
    """Join the ranks that the environment tells of, by the variables that torchrun sets.

    The process sees one GPU from then on, its own: so everything in it that asks for a GPU gets that one.
    Must come before the GPU is used.
    """
    from torch import distributed

    ranks = Ranks(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    _see_one_gpu(ranks.local_rank)
    with _all_there():
        distributed.init_process_group(backend(), timeout=PATIENCE)
    return ranks


def backend() -> str:
    """Return what the ranks speak through: on GPUs NCCL between these, but flags and texts over the host.

    So the host, which launches ahead of the GPU, need not wait for it to learn what the others say.
    """
    import torch

    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def leave() -> None:
    """Close the connections to the other ranks."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _see_one_gpu(number: int) -> None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number)
    elif len(devices := visible.split(",")) > 1:  # else it is its own already
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number]


@contextmanager
def _all_there() -> Iterator[None]:
    """Raise PeerLost in place of what torch.distributed raises where a rank is gone."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise PeerLost(re.sub(r"^\[\S+\] ", "", reason)) from error  # without the place in its source
