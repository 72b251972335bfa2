"""Which class of device this machine computes on, found out without torch: importing that takes seconds."""

import importlib.metadata
import os
import subprocess


def device_class() -> str:
    """Return the first GPU's name as torch has it, or `cpu`."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not _torch_has_cuda():
        return "cpu"
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    names = answer.stdout.splitlines() if answer.returncode == 0 else []
    return names[0].strip() if names else "cpu"


def _torch_has_cuda() -> bool:
    try:
        return not importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
