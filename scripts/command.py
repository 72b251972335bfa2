"""The command line of a script that takes no arguments and prints lines."""

import argparse
import os
import sys
from collections.abc import Callable

from sft.core.errors import UserError
from stages.cli import described


def run(name: str, doc: str | None, lines: Callable[[], list[str]]) -> None:
    """Print what `lines` returns; exit with status 1 where it raises UserError, which is then said.

    `--help` shows the first paragraph of `doc`; an argument is refused before anything is done.
    """
    argparse.ArgumentParser(
        prog=f"python -m scripts.{name}", description=(doc or "").split("\n\n")[0]
    ).parse_args()
    try:
        print("\n".join(lines()), flush=True)
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    except BrokenPipeError:  # read by `head`, which wants no more; Python would complain at its end, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
