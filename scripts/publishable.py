"""What of this workspace can be published: an adapter that is what the commit says, with its card."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts import adapter_base
from scripts.compat import folder_hash
from scripts.export_formats import EXPORT, SCORES
from scripts.lock_entries import locked_entries
from scripts.repro_forecast import forecast
from scripts.revisions import git
from scripts.stage_entries import opened
from sft.card.exported import FOLDERS, card_of_export
from sft.core.errors import MissingFile, UserError
from sft.core.files import read_json, read_text
from sft.export.export import RECORD
from sft.fetch.uri import parse
from sft.modeling.adapter import KEPT
from stages.cli import LOCK, PARAMS, PIPELINE
from stages.paths import ADAPTER, CARD

README = "README.md"
ADAPTER_ONLY = "adapter"

# What is pushed, by its path in the repository: a file here, or its content.
Files = Mapping[str, Path | bytes]


def check_workspace() -> None:
    """Raise UserError where the workspace's adapter, card or results are not those of its commit."""
    adapter_base.check_files()
    with opened() as stages:
        lock = locked_entries()
        behind = {name: one.why for name, one in forecast(stages, lock).items() if one.changed}
        damaged = [
            path
            for name, entry in lock.items()
            if name in stages.names
            for path, state in stages.damaged(name, entry).items()
            if state == "modified" or path == CARD
        ]
        ours = {path for name in stages.names for path in (*stages.in_git(name), *stages.deps(name))}
    if behind:
        raise UserError(
            f"{LOCK} is behind: {'; '.join(_reasons(behind))}. So the adapter is not what this commit makes: "
            "dvc repro, and commit what comes of it."
        )
    if damaged:
        raise UserError(
            f"{', '.join(damaged)}: not what {LOCK} says that the pipeline made. `dvc repro` makes it again."
        )
    if changed := _not_committed({LOCK, PARAMS, PIPELINE, *ours}):
        raise UserError(
            f"{', '.join(changed)}: not committed, so nobody could tell what was published. git add and git "
            "commit, then publish."
        )


def _reasons(behind: Mapping[str, list[str]]) -> list[str]:
    return [f"{name} ({', '.join(why[:3])}{', ...' if why[3:] else ''})" for name, why in behind.items()]


def _not_committed(paths: Iterable[str]) -> list[str]:
    """Return which of the paths differ from HEAD, or are in no commit."""
    there = sorted(path for path in paths if Path(path).exists() or path in (LOCK, PARAMS, PIPELINE))
    listed = git("status", "--porcelain", "-z", "--untracked-files=all", "--", *there).split("\0")
    return sorted({line[3:] for line in listed if line})


def files(what: str) -> Files:
    """Return what is pushed: the adapter with its card, or what `make export` wrote into a folder.

    Raises UserError where that is not there, was exported from another adapter, or was found to be worse.
    """
    card = read_text(CARD)
    if what == ADAPTER_ONLY:
        return {
            KEPT[0]: _config(read_json(Path(ADAPTER) / KEPT[0])),
            KEPT[1]: Path(ADAPTER) / KEPT[1],
            README: card.encode(),
        }
    folder = Path(EXPORT) / what
    if what not in FOLDERS or not folder.is_dir():
        raise UserError(f"{folder}: nothing was exported there. First: make export")
    try:
        made_from = read_json(Path(EXPORT) / RECORD).get("adapter")
    except (MissingFile, AttributeError) as error:
        raise UserError(f"{EXPORT}/{RECORD}: missing or damaged. Export again: make export") from error
    if made_from != folder_hash(Path(ADAPTER)):
        raise UserError(
            f"{EXPORT}: made from another adapter than {ADAPTER} is now. Export again: make export"
        )
    found: dict[str, Path | bytes] = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    found[README] = card_of_export(card, what, list(found)).encode()
    scores = Path(EXPORT) / SCORES
    if scores.is_file():
        _check_scores(read_json(scores), folder)
        found[SCORES] = scores
    return found


def _check_scores(scores: Any, folder: Path) -> None:
    """Raise UserError where a file in the folder, or the folder, did not pass; of unscored ones nothing."""
    for name, score in scores.get("files", {}).items():
        if Path(name).is_relative_to(folder) and not score["passed"]:
            raise UserError(f"{score['why']} ({EXPORT}/{SCORES})")


def _config(config: dict[str, Any]) -> bytes:
    """Return adapter_config.json with a base model of the hub named as PEFT and vLLM look for it there."""
    base = parse(config["base_model_name_or_path"])
    if base.scheme == "model":
        config = config | {"base_model_name_or_path": base.name}
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
