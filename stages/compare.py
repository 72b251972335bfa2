"""Is the difference real? Compare the results of Git revisions, experiments, folders and the workspace.

Run as `python -m stages.compare REV REV ...`: the first is what the others are compared with. A REV is a
branch, tag, commit or experiment whose run is in DVC's cache, `workspace`, or a folder that holds
params.yaml, metrics/ and data/answers/ (or a study's scores.jsonl.gz). Prints Markdown. It is no stage of the
pipeline: it reads what stages left.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from sft import params
from sft.comparison import Result, report
from sft.errors import UserError

PARAMS, METRICS, ANSWERS = "params.yaml", "metrics/evaluate.json", "data/answers/evaluate.jsonl"


def load(revision: str) -> Result:
    """Read a result; raise UserError where the revision, its metrics or its answers cannot be had."""
    if revision == "workspace" or Path(revision).is_dir():
        folder = Path("." if revision == "workspace" else revision)
        texts = [_read(folder / name) for name in (PARAMS, METRICS)]
        scores = folder / "scores.jsonl.gz"  # of a study's cell, as published: answers without texts
        texts.append(
            gzip.decompress(scores.read_bytes()).decode() if scores.exists() else _read(folder / ANSWERS)
        )
    else:
        texts = [_read_revision(name, revision) for name in (PARAMS, METRICS, ANSWERS)]
    values, metrics, answers = texts
    rows: list[dict[str, Any]] = [json.loads(line) for line in answers.splitlines()]
    return Result(revision, params.parse(values, f"{PARAMS} of {revision}"), rows, json.loads(metrics))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file. Run the pipeline there: dvc repro") from error


def _read_revision(name: str, revision: str) -> str:
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    try:
        return dvc.api.read(name, rev=revision, encoding="utf-8")
    except RevError as error:
        raise UserError(f"{revision}: no such revision, experiment or folder.") from error
    except (DvcException, FileNotFoundError) as error:
        raise UserError(
            f"{revision}: its {name} cannot be read ({error}). Run it, dvc pull it, or check it out."
        ) from error


if __name__ == "__main__":
    try:
        print(report([load(revision) for revision in dict.fromkeys(sys.argv[1:])]), end="")
    except UserError as error:
        sys.exit(f"error: {error}")
