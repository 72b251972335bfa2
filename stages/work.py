"""Where a stage keeps what it has done so far, so that the next run of the same stage goes on from there.

It is a folder below .dvc/tmp/work, named by a hash of all that the stage's result depends on. It is no
output: DVC deletes outputs before it runs a stage, and `persist: true`, which keeps them, turns the run cache
off. `dvc exp run --temp` and queue tasks run in a copy of the repository; theirs is in the repository
itself. stages/kept_work.py says when it goes.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from sft.core import provenance
from sft.core.files import xxh3_of
from stages import kept_work
from stages.inputs import Inputs

if TYPE_CHECKING:
    from filelock import FileLock

# What changes the last bits of a result beside packages and device: the libraries below PyTorch read these.
VARIABLES = (
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
)
DRIVER = Path("/proc/driver/nvidia/version")
BESIDE = ("numpy", "safetensors", "jinja2", "pyarrow")  # packages that a run's record does not name


def content(path: Path) -> str | None:
    """Return a hash of a file, or of a folder's files and their names; None where there is neither."""
    if not path.is_dir():
        return xxh3_of(path)
    files = [file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    return _hash({file.relative_to(path).as_posix(): xxh3_of(file) for file in files})


@contextmanager
def folder(inputs: Inputs | None, others: Mapping[str, str | None]) -> Iterator[Path]:
    """Yield the folder of a stage's inputs, of `others` that only the stage knows, of packages and device.

    It stays on an exception, with what is in it, and goes on success, once DVC has recorded that. Of several
    processes with the same inputs each has a folder of its own, the one with the latest work if nobody else
    has it. Without inputs, without a repository of DVC's, or where it cannot be written, it is temporary.
    """
    place = kept_work.place()
    if inputs is None or place is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    place /= inputs.stage
    entry = inputs.entry()
    key = _key(entry, others)
    try:
        place.mkdir(parents=True, exist_ok=True)
        kept_work.remove_old(besides=f"{inputs.stage}/{key}-")
        path, lock = _take(place, key)
    except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
        lost = f"what {inputs.stage} has done is lost if it is stopped"
        print(f"warning: {place}: cannot be written ({error}): {lost}.", file=sys.stderr)
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    try:
        yield path
    except BaseException:
        with suppress(OSError):
            path.rmdir()  # where there is nothing in it
        raise
    else:
        if "DVC_STAGE" in os.environ:  # which DVC sets
            kept_work.mark_finished(path, entry)
        else:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        if not path.exists():
            kept_work.remove(path)
        lock.release()


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _key(entry: dict[str, Any], others: Mapping[str, str | None]) -> str:
    return _hash([entry, dict(others), provenance.versions(), _beside(), _device()])[:32]


def _beside() -> list[Any]:
    """Return versions and variables that a result depends on and a run's record does not have."""
    installed = {}
    for package in BESIDE:
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    driver = DRIVER.read_text() if DRIVER.exists() else ""
    return [installed, driver, {name: os.environ.get(name) for name in VARIABLES}]


def _device() -> list[str]:
    """Name what decides the last bits of a result: the GPU, or the processor's instructions and threads."""
    import torch

    if torch.cuda.is_available():
        return [provenance.device_name()]
    instructions = torch.backends.cpu.get_cpu_capability()  # which the environment may limit
    return [provenance.device_name(), instructions, _hash(torch.cpu.get_capabilities())]


def _take(place: Path, key: str) -> tuple[Path, "FileLock"]:
    """Lock a folder of the key that nobody holds, and return both: the one touched last, else a new one."""
    there = sorted(place.glob(f"{key}-*[0-9]"), key=kept_work.touched, reverse=True)
    taken = {path.name for path in there}
    new = (place / name for n in range(len(there) + 1000) if (name := f"{key}-{n}") not in taken)
    for path in [*there, *new]:
        lock = kept_work.lock_of(path)
        try:
            lock.acquire()
        except Timeout:
            continue
        path.mkdir(exist_ok=True)
        kept_work.finished(path).unlink(missing_ok=True)
        return path, lock
    raise OSError("a thousand processes hold such a folder")
