"""Running a command, with the time and the memory of each stage of the pipeline that it runs. Linux only."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from benchmarks.data_speed.process_tree import Memory

_STAGE = re.compile(r"Running stage '([^']+)'")


class CommandError(Exception):
    """A command failed; the message names it and its status."""


@dataclass
class Step:
    """A stage that a command ran, or the command itself where it runs no stages.

    `seconds` are from DVC's line about the stage to that about the next one, so hashing what it needs and
    storing what it made are included; `memory` is the peak of the whole process tree in bytes, shared pages
    counted once.
    """

    name: str
    seconds: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class Runner:
    """Where commands run and in which environment; `log` has what they print, and when since `begun`."""

    folder: Path
    env: Mapping[str, str]
    log: TextIO
    begun: float

    def say(self, line: str) -> None:
        """Put a line into the log, and on the screen."""
        text = f"{time.monotonic() - self.begun:7.1f}  {line.rstrip()}"
        print(text, flush=True)
        print(text, file=self.log, flush=True)

    def run(self, name: str, command: Sequence[str], steps: list[Step] | None = None) -> None:
        """Run a command to its end, and put its stages into `steps`, or `name` where it runs none.

        Raises CommandError where it fails; `steps` has what ran until then.
        """
        self.say(f"$ {' '.join(command)}")
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        memory = Memory(process.pid)
        memory.start()
        step, since = Step(name), time.monotonic()
        steps = [] if steps is None else steps
        try:
            assert process.stdout
            for line in process.stdout:
                if match := _STAGE.search(line):
                    since = _close(step, memory, since)
                    step = Step(match[1])
                    steps.append(step)
                if line.strip():
                    self.say(line)
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            _close(step, memory, since)
            memory.ended.set()
            memory.join()
        if status:
            raise CommandError(f"{' '.join(command)} failed with status {status}: see the log")
        if not steps:
            steps.append(step)


def _close(step: Step, memory: Memory, since: float) -> float:
    now = time.monotonic()
    step.seconds, step.memory = round(now - since, 1), memory.peak
    memory.peak = 0
    return now


def environment(hub: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the commands: this Python's programs first, and the hub's addresses."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GIT_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **hub,
    }
