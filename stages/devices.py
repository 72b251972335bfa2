"""One GPU for each of several stages at the same time: the environment variable SFT_DEVICES names the GPUs.

    SFT_DEVICES=0,1,2 dvc queue start --jobs 3

A stage that runs a model takes the first device of the list that no other stage has, waits where all are
taken, and sees no other GPU. The lock of a file says that a device is taken: the system releases it however
the stage ends. A study's runs, a queue's workers and `dvc exp run --temp` share devices by this alone. A
device that is named twice is taken by two stages at once. Without the variable a stage sees what
CUDA_VISIBLE_DEVICES says.
"""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

from filelock import FileLock, Timeout

from sft.core.errors import UserError
from sft.fetch.cache import cache_dir

VARIABLE = "SFT_DEVICES"
VISIBLE = "CUDA_VISIBLE_DEVICES"
INTERVAL = 0.5  # seconds between two looks whether a device is free

_held: list[FileLock] = []  # until the process ends


def take(count: int = 1) -> list[str]:
    """Take `count` devices for this process and have it see these only; wait until so many are free.

    To be called before CUDA is: it looks once which devices there are. What this process starts inherits the
    devices and takes none itself, so the ranks of one training share those that its stage has taken.

    Returns the devices' names, none where the environment names none. Raises UserError where it names what is
    no device, or fewer than `count`, and where files cannot be locked.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return []
    names = named(text)
    check_there(names)
    if count > len(set(names)):
        raise UserError(f"{VARIABLE}: {count} devices are asked for, and {text!r} names {len(set(names))}.")
    taken = _acquire(names, count)
    if taken is None:
        print(f"devices   waiting: fewer than {count} of {VARIABLE}={text} are free", flush=True)
        while (taken := _acquire(names, count)) is None:
            time.sleep(INTERVAL)
    print(f"devices   {','.join(taken)} of {VARIABLE}={text}", flush=True)
    # As nvidia-smi numbers them: CUDA's own order begins with the fastest.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ[VISIBLE] = ",".join(taken)
    del os.environ[VARIABLE]
    return taken


def named(text: str) -> list[str]:
    """Return the devices of a list such as "0,1"; raise UserError for what CUDA would not understand.

    CUDA takes such a name for the end of the list, and the stage would train on the processor.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", name):
            raise UserError(
                f"{VARIABLE}: {name!r} is no device. Give numbers as nvidia-smi has them, such as 0,1,2, or "
                "names that begin with GPU- or MIG- (nvidia-smi -L)."
            )
    return names


def check_there(names: list[str]) -> None:
    """Raise UserError where nvidia-smi lists devices and one of these is not among them."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no NVIDIA driver: nobody can tell
        return
    numbers = re.findall(r"^GPU (\d+):", listed, re.MULTILINE)
    uuids = re.findall(r"UUID: ([\w/-]+)", listed)
    for name in names:
        # CUDA takes the beginning of a name, too.
        if name not in numbers and not any(uuid.startswith(name) for uuid in uuids):
            there = f"{len(numbers)} (0 to {len(numbers) - 1})" if numbers else "none"
            raise UserError(f"{VARIABLE}: there is no GPU {name} here. nvidia-smi -L lists {there}.")


def _acquire(names: list[str], count: int) -> list[str] | None:
    """Lock the first `count` different devices that are free; return them, None where there are too few."""
    _release()
    taken: list[str] = []
    for place, name in enumerate(names):
        if len(taken) < count and name not in taken:
            lock = FileLock(_file(name, names[:place].count(name)), timeout=0, fallback_to_soft=False)
            try:
                lock.acquire()
            except Timeout:
                continue
            except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
                raise UserError(
                    f"{lock.lock_file}: cannot be locked ({error}), which {VARIABLE} needs. Set SFT_CACHE to "
                    "a folder on a disk of this machine."
                ) from error
            _held.append(lock)
            taken.append(name)
    if len(taken) < count:
        _release()
        return None
    return taken


def _release() -> None:
    while _held:
        _held.pop().release()


def _file(name: str, place: int) -> Path:
    """Return the file whose lock stands for a device; `place` counts where a device is named several times.

    The devices are this machine's, for all clones of the user, and the home folder may be several machines'.
    A Slurm job has devices of its own, which may have the numbers of another job's.
    """
    owner = "-".join([socket.gethostname(), *filter(None, [os.environ.get("SLURM_JOB_ID")])])
    folder = cache_dir() / "devices" / owner
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name.replace('/', '_')}-{place}.lock"
