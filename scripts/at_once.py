"""Several runs of a study at the same time, one on each GPU: for scripts.study and study_without_dvc."""

import argparse
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sft.core.errors import UserError
from stages import devices

# Ctrl-C ends what runs, too: a thread whose run it ended must begin no other before `main` hears of it.
interrupted = threading.Event()


def share(text: str | None) -> int:
    """Have the stages of all runs share the devices of a list such as "0,1"; return how many runs at a time.

    That is as many as devices: which stage has which they settle themselves. Without a list it is one run, on
    what there is. Raises UserError for what is no list of devices of this machine.
    """
    if text is None:
        return 1
    names = devices.named(text)
    devices.check_there(names)
    os.environ[devices.VARIABLE] = ",".join(names)
    return len(names)


def add_option(parser: "argparse.ArgumentParser | argparse._MutuallyExclusiveGroup") -> None:
    """Give a command the option --devices."""
    parser.add_argument(
        "--devices",
        metavar="0,1",
        help="GPUs, as nvidia-smi numbers them: one run at a time on each, two on one that is named twice",
    )


def run(jobs: Sequence[Callable[[], None]], at_once: int) -> None:
    """Call all jobs, `at_once` at a time; one that fails keeps none of the others from being called.

    Raises UserError with what all those said that failed.
    """
    pool = ThreadPoolExecutor(at_once)
    try:
        calls = [pool.submit(job) for job in jobs]
        faults = [fault for fault in (call.exception() for call in calls) if fault]
    except KeyboardInterrupt:
        interrupted.set()
        raise
    finally:  # on Ctrl-C, which the processes of the jobs got too
        pool.shutdown(cancel_futures=True)
    for fault in faults:
        if not isinstance(fault, UserError):
            raise fault
    if faults:
        raise UserError("\n".join(map(str, faults)))
