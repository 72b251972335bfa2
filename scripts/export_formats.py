"""The export's folder, and the command line that its commands have in common: --formats."""

import argparse
from collections.abc import Callable
from typing import Any

from sft.export.formats import FORMATS
from stages.cli import run

EXPORT = "export"
# In it, by scripts.export_scores.
SCORES = "scores.json"


def run_on_formats(
    main: Callable[[dict[str, Any], argparse.Namespace], None],
    program: str,
    about: str | None,
    default: str,
    scores: bool = False,
) -> None:
    """Run a command on params.yaml's values and the `formats` named, as `stages.cli.run` does.

    `scores` says that it has --score, too.
    """
    parser = argparse.ArgumentParser(prog=program, description=(about or "").partition("\n")[0])
    names = " ".join(made.name for made in FORMATS)
    parser.add_argument(
        "--formats", nargs="*", default=[], metavar="FORMAT", help=f"of {names}; default: {default}"
    )
    if scores:
        parser.add_argument("--score", action="store_true", help="then score it: scripts.export_scores")
    options = parser.parse_args()
    run(lambda values: main(values, options))
