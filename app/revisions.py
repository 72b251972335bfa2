"""Which model answers: the base model, the workspace's adapter, or that of a revision, through DVC.

An adapter of another revision comes out of DVC's cache or remote into the download cache, keyed by the hash
that dvc.lock has of it, so it is fetched once and nothing in the workspace changes.
"""

import errno
import hashlib
import json
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from app.compat import EXPERIMENTS, experiment_name, open_revision
from app.prompts import visible
from sft.core import params
from sft.core.errors import UserError
from sft.core.files import replacing
from sft.fetch.cache import cache_dir
from sft.modeling.adapter import KEPT
from sft.modeling.loading import ModelParams
from stages.cli import PARAMS
from stages.paths import ADAPTER

WORKSPACE, BASE = "workspace", "base"
MOST_NAME = 200  # characters of a revision's name
MOST_LISTED = 30  # branches, tags and experiments each; others can be typed

_dvc = threading.Lock()  # DVC's objects are shared by threads in places


@dataclass(frozen=True)
class Source:
    """A model to answer with: what it is called, its base, and the folder and content hash of its adapter.

    `adapter` is None for the base model, whose `key` is then empty. `temperature` is evaluation's.
    """

    name: str
    model: ModelParams
    temperature: float
    adapter: Path | None
    key: str


def find(name: str) -> Source:
    """Return what `name` stands for: "workspace", "base", or an experiment or Git revision.

    Raises UserError where there is no such revision, or no adapter to be had of it.
    """
    name = visible(name[: MOST_NAME + 1]).strip()
    if name in (WORKSPACE, BASE):
        values = params.load(PARAMS)
        if name == BASE:
            return _source(name, values, None, "")
        return _source(name, values, Path(ADAPTER), _content(Path(ADAPTER)))
    if not name or name.startswith("-") or ":" in name or len(name) > MOST_NAME:
        raise UserError(f"{name[:40]!r}: no such revision. Name a branch, tag, commit or experiment.")
    with _dvc:
        return _of_revision(name)


def temperature() -> float:
    """Return the temperature of evaluation, as params.yaml has it now."""
    return _temperature(params.load(PARAMS))


def listed() -> list[str]:
    """Return the names to choose from: workspace and base, then experiments, branches and tags."""
    names = [WORKSPACE, BASE]
    for kind in (EXPERIMENTS, "refs/heads", "refs/tags"):
        command = ["git", "for-each-ref", "--sort=-creatordate", "--format=%(refname)", kind]
        try:
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return names  # no Git here: the workspace is all there is
        references = output.split("\n")[:-1]
        if kind == EXPERIMENTS:
            of_kind = [name for reference in references if (name := experiment_name(reference))]
        else:
            of_kind = [reference.removeprefix(f"{kind}/") for reference in references]
        names += of_kind[:MOST_LISTED]
    return list(dict.fromkeys(names))


def _of_revision(name: str) -> Source:
    from dvc.exceptions import DvcException

    try:
        files, text, key = open_revision(name, PARAMS, ADAPTER)
    except ValueError as error:
        raise UserError(
            f"{name}: no such revision or experiment. Name a branch, tag, commit or experiment of this "
            "repository; what only a remote has: git fetch, or dvc exp pull."
        ) from error
    except FileNotFoundError as error:
        raise UserError(
            f"{name}: it has no adapter: its dvc.lock names no {ADAPTER}. Run the pipeline there: dvc repro"
        ) from error
    except DvcException as error:
        raise UserError(f"{name}: cannot be read by DVC: {error}") from error
    values = params.parse(text, f"{PARAMS} of {name}")
    folder = cache_dir() / "adapters" / key.replace(".", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            with replacing(folder) as temporary:
                _get(files, name, temporary)
    return _source(name, values, folder, folder.name)


def _get(files: Any, name: str, folder: Path) -> None:
    """Fetch the adapter into a new folder; raises UserError where neither cache nor remote has it."""
    try:
        files.get(ADAPTER, str(folder), recursive=True)
        missing = [part for part in KEPT if not (folder / part).exists()]
        if missing:
            raise FileNotFoundError(missing[0])
    except Exception as error:  # caches and remotes of all kinds have faults of their own
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise UserError(
            f"{name}: its adapter is neither in DVC's cache nor in a remote. Get it: dvc pull from a remote "
            f"that has it, or check {name} out and run dvc repro."
        ) from error


def _content(folder: Path) -> str:
    """Hash an adapter's files: a run of the pipeline may put another one there."""
    digest = hashlib.sha256()
    try:
        for name in KEPT:
            digest.update((folder / name).read_bytes())
    except OSError as error:
        raise UserError(f"{folder}: no adapter there yet. Train one: make repro") from error
    return digest.hexdigest()[:32]


def _check_base(name: str, adapter: Path, reference: str) -> None:
    """Raise UserError where the adapter was trained on another base model than the params name now."""
    trained_on = json.loads((adapter / KEPT[0]).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if trained_on and trained_on != reference:
        raise UserError(
            f"{name}: its adapter was trained on {trained_on}, but its params.yaml names {reference}. "
            "Train one for that: dvc repro"
        )


def _source(name: str, values: dict[str, Any], adapter: Path | None, key: str) -> Source:
    model = params.section(values, "model", ModelParams)
    if adapter is not None:
        _check_base(name, adapter, model.reference)
    return Source(name, model, _temperature(values), adapter, key)


def _temperature(values: dict[str, Any]) -> float:
    evaluate = values.get("evaluate")
    value = evaluate.get("temperature") if isinstance(evaluate, dict) else None
    return params.parse_value(value, params.Number, "evaluate.temperature")
