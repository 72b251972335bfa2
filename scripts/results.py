"""Reading results: of Git revisions, experiments, folders and the workspace.

All that a result needs is in Git, so a clone without DVC's cache has it.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.compat import experiment_commits
from scripts.revisions import Side, resolve
from sft.core import params
from sft.core.errors import UserError
from sft.evaluation import scores_file
from sft.study.results import Inputs, Result
from stages.cli import LOCK, PARAMS
from stages.paths import PROVENANCE_EVALUATE, PROVENANCE_TRAIN, SCORES_BASELINE, SCORES_EVALUATE

INPUTS = "inputs.json"  # what of the lock a result's `inputs` are; of runs without DVC, and of published ones
ROWS = ("", ".parquet")  # suffixes of the outs of standardize that hold rows: folders of shards, and files
SCORED_BY = ("standardize", "mix", "train", "baseline", "evaluate")  # the stages that a result comes from


@dataclass(frozen=True)
class Source:
    """Where a result lies: its name, and what returns the text of a file there (None where there is none)."""

    name: str
    read: Callable[[str], str | None]

    @classmethod
    def of(cls, name: str) -> "Source":
        """Find a folder, the workspace, a revision or an experiment; raise UserError where there is none."""
        folder = Path("." if name == "workspace" else name)
        if folder.is_dir():
            return cls(name, lambda path: _of_folder(folder, path))
        return cls(name, Side(_commit(name)).read)

    def result(self) -> Result:
        """Read the result; raise UserError for what is missing or damaged."""
        trained = self._record(PROVENANCE_TRAIN, ("rows_seen", "distinct_rows_seen", "tokens_seen", "epochs"))
        evaluated = self._record(PROVENANCE_EVALUATE, ())
        baseline = self.read(SCORES_BASELINE)
        return Result(
            self.name,
            params.parse(self._needed(PARAMS), f"{PARAMS} of {self.name}"),
            scores_file.parse(self._needed(SCORES_EVALUATE), f"{SCORES_EVALUATE} of {self.name}"),
            trained,  # type: ignore[arg-type]
            evaluated,  # type: ignore[arg-type]
            scores_file.parse(baseline, f"{SCORES_BASELINE} of {self.name}") if baseline else {},
            self._inputs(),
        )

    def _needed(self, path: str) -> str:
        text = self.read(path)
        if text is None:
            raise UserError(
                f"{self.name}: it has no {path}. Either nothing that ran was committed there, or it ran by "
                "code from before there was such a file. Run its params by today's code, and name that run."
            )
        return text

    def _record(self, path: str, names: tuple[str, ...]) -> dict[str, Any]:
        """Read a stage's provenance."""
        try:
            record = json.loads(self._needed(path))
        except ValueError as error:
            raise self._damaged(path, str(error)) from error
        for name in (*names, "device", "versions"):
            if not isinstance(record, dict) or name not in record:
                raise self._damaged(path, f"it does not say {name}")
        return record

    def _inputs(self) -> Inputs | None:
        if (text := self.read(INPUTS)) is not None:
            try:
                return Inputs(**json.loads(text))
            except (ValueError, TypeError) as error:
                raise self._damaged(INPUTS, str(error)) from error
        if (text := self.read(LOCK)) is None:
            return None
        try:
            stages = params.parse(text, f"{LOCK} of {self.name}")["stages"]
            made = stages["standardize"]["outs"]
            data = {out["path"]: str(out["md5"]) for out in made if Path(out["path"]).suffix in ROWS}
            code: dict[str, set[str]] = {}
            for stage in SCORED_BY:
                for dep in stages.get(stage, {}).get("deps", []):
                    if dep["path"].startswith(("sft/", "stages/")):
                        code.setdefault(dep["path"], set()).add(dep["md5"])
        except (KeyError, TypeError, AttributeError) as error:
            raise self._damaged(LOCK, f"it has no {error}") from error
        return Inputs(data, {path: " ".join(sorted(hashes)) for path, hashes in code.items()})

    def _damaged(self, path: str, what: str) -> UserError:
        return UserError(f"{self.name}: its {path} is damaged: {what}. Make it anew.")


def _of_folder(folder: Path, path: str) -> str | None:
    """Read a file of a folder, where it may be compressed too, as a published study's scores are."""
    file, compressed = folder / path, folder / f"{path}.gz"
    try:
        if file.is_file():
            return file.read_text(encoding="utf-8")
        return gzip.decompress(compressed.read_bytes()).decode() if compressed.is_file() else None
    except (OSError, EOFError, ValueError) as error:  # not gzip, cut off, or not UTF-8
        raise UserError(f"{file}: cannot be read: {error}. Make it anew.") from error


def _commit(name: str) -> str:
    """Return the commit of a revision or an experiment."""
    try:
        return resolve(name)
    except UserError:
        commits = experiment_commits(name)
        if not commits:
            raise
    if len(commits) > 1:
        raise UserError(
            f"{name}: there are {len(commits)} experiments of this name, begun at different commits. Name "
            f"one by its commit: {', '.join(commit[:9] for commit in commits)}."
        )
    return commits[0]
