"""Is the difference real? Compare the results of Git revisions, experiments, folders and the workspace.

Run as `python -m scripts.compare REV REV ...`: the first is what the others are compared with. A REV is a
branch, tag, commit or experiment whose run is in DVC's cache, `workspace`, or a folder that holds
params.yaml, metrics/ and data/answers/ (or a study's scores.jsonl.gz). Prints Markdown. It is no stage of the
pipeline: it reads what stages left.
"""

import gzip
import json
import sys
from functools import partial
from pathlib import Path

from scripts.compat import NoSuchRevision, Unreadable, read_revision
from sft.core import params
from sft.core.errors import UserError
from sft.study.comparison_report import report
from sft.study.results import Result
from stages.cli import PARAMS, described
from stages.paths import ANSWERS, METRICS_EVALUATE, METRICS_TRAIN

SCORES = "scores.jsonl.gz"  # of a study's run, as published: answers without texts


def load(revision: str) -> Result:
    """Read a result; raise UserError where the revision, its metrics or its answers cannot be had."""
    folder = Path("." if revision == "workspace" else revision)
    read = partial(_read, folder) if folder.is_dir() else partial(_read_revision, revision)
    values, metrics, trained = read(PARAMS), read(METRICS_EVALUATE), read(METRICS_TRAIN)
    try:
        if (folder / SCORES).exists():
            answers = gzip.decompress((folder / SCORES).read_bytes()).decode()
        else:
            answers = read(ANSWERS)
        return Result(
            revision,
            params.parse(values, f"{PARAMS} of {revision}"),
            # Only "\n" ends a line: answers may hold other characters that splitlines() would take.
            [json.loads(line) for line in answers.split("\n") if line],
            json.loads(metrics),
            json.loads(trained),
        )
    except (ValueError, OSError, EOFError) as error:  # not JSON; not gzip, or cut off
        raise UserError(f"{revision}: its metrics or answers are damaged: {error}. Make it anew.") from error


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{folder / name}: no such file. Run the pipeline there.") from error


def _read_revision(revision: str, name: str) -> str:
    try:
        return read_revision(revision, name)
    except NoSuchRevision as error:
        raise UserError(f"{revision}: no such revision, experiment or folder.") from error
    except Unreadable as error:
        raise UserError(
            f"{revision}: its {name} cannot be read ({error}). Run it, dvc pull it, or check it out."
        ) from error


if __name__ == "__main__":
    try:
        print(report([load(revision) for revision in dict.fromkeys(sys.argv[1:])]), end="")
    except UserError as error:
        sys.exit(f"error: {described(error)}")
