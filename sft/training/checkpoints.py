"""Checkpoints of a training: folders that are whole or not there, the last two of them.

One is written aside with a manifest of its files' hashes and then renamed, which the trainer does not do: a
process killed while it saves leaves nothing that looks like a checkpoint, and damage by a disk is seen.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.core.files import read_json, sha256_of

INTERVAL = 60.0  # seconds between two checkpoints at least
SHARE = 0.02  # of the time at most goes into saving
KEPT = 2
MANIFEST, PROGRESS = "manifest.json", "progress.json"


class Interrupted(Exception):
    """Training was asked to stop, after `step` of `steps`; `kept` is the step it can go on from, or None."""

    def __init__(self, step: int, steps: int, kept: int | None) -> None:
        super().__init__(f"stopped at step {step} of {steps}")
        self.step, self.steps, self.kept = step, steps, kept


@dataclass
class Progress:
    """How far training is, beyond what the trainer itself keeps.

    `saved` is in seconds since 1970; `seconds` is what training took up to here in all runs, `step_seconds`
    has one entry a step. `resumed_at_steps` are the steps that runs before this one went on from, `cut` and
    `graphs` how the steps are cut and captured. `validation_due`: this step's validation was broken off.
    `reported` are the ids of the runs that trackers have of it, by tracker.
    """

    step: int
    steps: int
    saved: float
    seconds: float
    step_seconds: list[float]
    resumed_at_steps: list[int]
    cut: dict[str, Any]
    captured_tokens: int
    graphs: dict[str, Any] | None = None
    validation_due: bool = False
    reported: dict[str, str] = field(default_factory=dict)


@dataclass
class Checkpoints:
    """The checkpoints in a folder; `stopping` tells whether training is to save one and end.

    There are `interval` seconds between two, or as many as keep saving within its share of the time. Before
    the first one `check` is called, which raises where none may be kept: by then all code is imported.
    """

    folder: Path
    stopping: Callable[[], bool] = lambda: False
    interval: float | None = None
    check: Callable[[], None] = lambda: None
    last: int | None = None  # the step of the newest
    _checked: bool = False
    _since: float = field(default_factory=time.monotonic)
    _took: float = 0.0

    def due(self) -> bool:
        """Tell whether it is time for the next one."""
        least = max(INTERVAL, self._took * (1 - SHARE) / SHARE) if self.interval is None else self.interval
        return time.monotonic() - self._since >= least

    def newest(self) -> tuple[Path, Progress] | None:
        """Return the newest that is whole, and remove those that are damaged, which it says."""
        for partial in self.folder.glob("*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        for path in reversed(self._paths()):
            try:
                progress = _checked(path)
            except (UserError, OSError, ValueError, TypeError, KeyError) as error:
                _warn(f"the checkpoint {path} is damaged, and is left out: {error}")
                shutil.rmtree(path, ignore_errors=True)
                if not self._paths():
                    _warn("no other checkpoint is left: training begins anew")
                continue
            self.last = progress.step
            return path, progress
        return None

    def save(self, progress: Progress, write: Callable[[Path], None]) -> None:
        """Write a checkpoint, whose files `write` puts into a folder.

        Where it cannot be written, which SafetensorError and RuntimeError say too, of a full disk, training
        goes on without it.
        """
        from safetensors import SafetensorError

        if not self._checked:
            self.check()
            self._checked = True
        begin = time.monotonic()
        path = self.folder / f"step-{progress.step:08}"
        partial = path.with_suffix(".partial")
        try:
            partial.mkdir(parents=True)
            write(partial)
            (partial / PROGRESS).write_text(json.dumps(asdict(progress)))
            hashes = {file.name: sha256_of(file) for file in sorted(partial.iterdir())}
            (partial / MANIFEST).write_text(json.dumps(hashes, indent=2))
            partial.replace(path)
            self.last = progress.step
            for old in self._paths()[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        except (OSError, RuntimeError, UserError, SafetensorError) as error:
            _warn(f"the checkpoint {path} cannot be written: {error}. Training goes on without it.")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            self._since = time.monotonic()
            self._took = self._since - begin

    def clear(self) -> None:
        """Remove them all."""
        for path in self._paths():
            shutil.rmtree(path, ignore_errors=True)

    def _paths(self) -> list[Path]:
        """Return the checkpoints' folders, the oldest first."""
        return sorted(path for path in self.folder.glob("step-*") if path.suffix != ".partial")


def _checked(path: Path) -> Progress:
    """Return a checkpoint's progress; raises one of several exceptions where a file is not as it was."""
    hashes = read_json(path / MANIFEST)
    if PROGRESS not in hashes:
        raise UserError(f"{MANIFEST} is not whole.")
    for name, sha256 in hashes.items():
        if sha256_of(path / name) != sha256:
            raise UserError(f"{name} is not what was written.")
    return Progress(**read_json(path / PROGRESS))


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
