"""Ranks on this machine's processor, forked from the test's own process, whose imports they have."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

COUNT = 2


def in_ranks(do: Callable[..., Any], *arguments: Any, count: int = COUNT) -> list[Any]:
    """Return what `do(ranks, *arguments)` returns in each of `count` ranks; fails where one raises."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(count)]
        processes = [
            context.Process(target=_rank, args=(rank, count, folder, sender, do, arguments))
            for rank, (_, sender) in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        for _, sender in pipes:
            sender.close()  # a rank that is gone then ends our waiting
        try:
            done = [receiver.recv() for receiver, _ in pipes]
        finally:
            for process in processes:
                process.kill()
                process.join()
    for error, _ in done:
        assert error is None, error
    return [value for _, value in done]


def _rank(rank: int, count: int, folder: str, sender: Any, do: Callable[..., Any], arguments: Any) -> None:
    from torch import distributed

    from sft.distributed.ranks import Ranks

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
    try:
        store = distributed.FileStore(str(Path(folder) / "store"), count)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=count)
        sender.send((None, do(Ranks(rank, count, rank), *arguments)))
    except BaseException:
        sender.send((traceback.format_exc(), None))
    distributed.destroy_process_group()
    os._exit(0)
