"""What a result depends on beyond its inputs: packages, device, memory, time."""

import importlib.metadata
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

PACKAGES = [
    "torch",
    "transformers",
    "tokenizers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "gguf",
    "rouge-score-rs",
    "sacrebleu",
    "unsloth",
    "liger-kernel",
    "bitsandbytes",
]


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to the phase `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)

    def add(self, phase: str, seconds: float) -> None:
        """Add `seconds` that runs before this one have spent in a phase."""
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + seconds, 3)

    def split(self, phase: str, part: str, seconds: float) -> None:
        """Move `seconds` of `phase` to a phase of their own, `part`."""
        self.seconds[phase] = round(self.seconds[phase] - seconds, 3)
        self.seconds[part] = round(seconds, 3)


def versions() -> dict[str, str]:
    """Return the installed versions of Python and of the packages that decide a result."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def device_name() -> str:
    """Name the device that torch computes on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


_peak_before = 0  # bytes: the most that torch counted before its count was last begun anew


def restart_peak_memory() -> None:
    """Begin torch's count of a GPU's peak memory anew; `peak_memory_gib` still knows what it was."""
    import torch

    global _peak_before
    _peak_before = max(_peak_before, torch.cuda.max_memory_allocated())
    torch.cuda.reset_peak_memory_stats()


def peak_memory_gib() -> float:
    """Return the peak of memory in GiB: the GPU's where there is one, else the process's resident set."""
    import torch

    if torch.cuda.is_available():
        return round(max(_peak_before, torch.cuda.max_memory_allocated()) / 2**30, 3)
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kibibytes / 2**20 if platform.system() != "Darwin" else kibibytes / 2**30, 3)
