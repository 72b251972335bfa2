"""A stage in one process, or in several, one a device: which of them this one is, and what it may print.

A stage that is asked for several devices starts itself once for each (stages/launch.py). One that finds
torchrun's variables in its environment is a rank, whoever has started it.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sft.core.errors import ParamError
from sft.core.params import section
from sft.distributed import ranks
from sft.distributed.ranks import ALONE, PeerLost, Ranks
from sft.modeling import loading
from sft.modeling.loading import ModelParams
from stages import cli, launch, stopping
from stages.devices import take
from stages.launch import LAUNCHER, LOST, REPORT

LOOK = 5.0  # seconds in which a launcher sees that a rank of its own has ended


def run(
    main: Callable[[dict[str, Any], Ranks], None],
    devices: Callable[[dict[str, Any]], int],
    name: str,
    *command: str,
) -> None:
    """Run the stage whose function is `main`, in as many processes as `devices` finds in the params.

    `name` is the param's, `command` what `python -m` is called with to run the stage.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1

    def start(values: dict[str, Any]) -> None:
        count = devices(values)
        if processes > 1 and count != processes:
            raise ParamError(
                f"{name}: it is {count}, but {processes} processes have been started (WORLD_SIZE)."
            )
        if processes > 1:
            main(values, ranks.join())
            return
        hosts = launch.hosts_of_environment().count
        take(max(1, count // hosts))
        if count == hosts == 1:
            main(values, ALONE)
        else:
            launch.launch(count, name, command, lambda: _fetch_model(values))

    if processes > 1:
        _run_rank(start)
    else:
        cli.run(start)


def _fetch_model(values: dict[str, Any]) -> None:
    """Have the base model in the cache: not every rank is to fetch it at the same time."""
    loading.resolve(section(values, "model", ModelParams).reference)


def _run_rank(start: Callable[[dict[str, Any]], None]) -> None:
    """Run the stage as one rank: only the first prints, and why it ends a rank tells its launcher."""
    report, launcher, errors = os.environ.get(REPORT), os.environ.get(LAUNCHER), sys.stderr
    if os.environ["RANK"] != "0":
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115

    def say(text: str) -> None:
        if report:
            Path(report).write_text(text, encoding="utf-8")
        else:  # started by torchrun
            print(text, file=errors, flush=True)

    try:
        cli.run(start, int(launcher) if launcher else None, say)
        ranks.leave()
        return
    except PeerLost as lost:
        status = LOST
        say(str(lost))
        for number in stopping.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        time.sleep(LOOK)  # the launcher sees meanwhile which has ended first
    except SystemExit as end:  # with what the user is to read
        status = 1
        say(str(end.code))
    except Exception:
        status = 1
        say(traceback.format_exc())
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(status)  # what waits for the other ranks would wait for long
