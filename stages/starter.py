"""Which process has started us as a stage of DVC's, and whether it is there."""

import os
from contextlib import suppress

import psutil


def starter(stage: str) -> psutil.Process | None:
    """Return the process that has started us as DVC's stage `stage`, None where none above us is seen to be.

    It is the nearest one above us that is Python or called dvc and lacks what DVC sets in the environment of
    a stage: there may be a shell between, and a queue's worker above it. Where DVC runs the stage in its own
    process, that is ours.
    """
    us = psutil.Process()
    for process in [us, *us.parents()]:
        with suppress(psutil.Error):  # another user's, and so no DVC of ours
            name = " ".join([process.name(), *process.cmdline()[:1]]).lower()
            if ("python" in name or "dvc" in name) and process.environ().get("DVC_STAGE") != stage:
                return process
    return None


def orphaned(stage: str) -> bool:
    """Tell, where there is no `starter`, whether it was there and is gone; False where nobody can tell.

    A stage is of DVC's process group, which an orphan keeps. What runs a stage elsewhere than below DVC
    (srun, systemd-run, setsid, a container) begins another group, and a DVC whose environment we may not read
    is still above us in ours. So we are an orphan where neither is.
    """
    us, group = psutil.Process(), os.getpgrp()
    for process in [us, *us.parents()]:
        if process.pid == 1 and not _is_of(
            process, stage
        ):  # which adopts orphans, in a container of its group
            continue
        with suppress(OSError):  # it has just ended
            if process.pid == group or (not _is_of(process, stage) and os.getpgid(process.pid) == group):
                return False
    return True


def _is_of(process: psutil.Process, stage: str) -> bool:
    """Tell whether a process has what DVC sets in the environment of a stage."""
    try:
        return process.environ().get("DVC_STAGE") == stage
    except (psutil.Error, OSError):
        return False


def lives(process: psutil.Process) -> bool:
    """Tell whether a process goes on."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
