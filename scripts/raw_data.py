"""Is data/raw what the last run has read? Answered where files that DVC tracks are absent."""

import hashlib
import json
import os
from pathlib import Path

from scripts.compat import data_files
from scripts.revisions import git
from sft.core.errors import UserError
from sft.core.params import load
from stages.cli import LOCK
from stages.paths import RAW


def absent(folder: Path) -> dict[str, str]:
    """Return files and folders under data/raw that DVC tracks and `folder` lacks, with their MD5 hashes.

    Raises UserError for a .dvc file that does not name them.
    """
    found: dict[str, str] = {}
    for pointer in git("ls-files", "-z", f"{RAW}/*.dvc", folder=folder).split("\0"):
        if pointer and (folder / pointer).exists():
            tracked = _tracked(folder, pointer)
            found |= {path: digest for path, digest in tracked.items() if not (folder / path).exists()}
    return found


def _tracked(folder: Path, pointer: str) -> dict[str, str]:
    """Return what a .dvc file tracks, by its path in the repository, with its MD5 hash."""
    written = load(folder / pointer)
    try:
        of = Path(pointer).parent / written.get("wdir", ".")
        outs = {Path(os.path.normpath(of / out["path"])).as_posix(): out["md5"] for out in written["outs"]}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{pointer}: damaged: it does not name a path and an MD5 hash in `outs` ({error}). Get it from "
            "Git again, or make it anew: dvc add"
        ) from error
    if not all(isinstance(digest, str) for digest in outs.values()):
        raise UserError(f"{pointer}: damaged: an MD5 hash is no text. Get it from Git again, or: dvc add")
    return outs


def is_changed(folder: Path, read: str, lacking: dict[str, str]) -> bool | None:
    """Tell whether data/raw differs from what was `read`, its hash in dvc.lock; None where nothing tells.

    `lacking` is what `absent` returns. Of an absent file the hash is in Git, so data/raw's own can be made.
    Of an absent folder that of its list of files is, which has no names: then data/raw in Git is compared
    with what it was when `read` came into dvc.lock.
    """
    if not any(digest.endswith(".dir") for digest in lacking.values()):
        return _digest(folder, lacking) != read
    commit, *parents = git("log", "-1", "--format=%H %P", f"-S{read}", "--", LOCK, folder=folder).split() or [
        ""
    ]
    shallow = git("rev-parse", "--is-shallow-repository", folder=folder).strip() == "true"
    if not commit or (shallow and not parents):  # not committed yet, or before what this clone has
        return None
    changed = git("diff", "--name-only", commit, "--", RAW, f":(exclude){RAW}/README.md", folder=folder)
    return bool(changed)


def _digest(folder: Path, lacking: dict[str, str]) -> str:
    """Return data/raw's hash as DVC makes it: of a list of files with their hashes."""
    here = {path: hashlib.md5((folder / path).read_bytes()).hexdigest() for path in data_files(folder, RAW)}
    files = [
        {"md5": digest, "relpath": Path(path).relative_to(RAW).as_posix()}
        for path, digest in (here | lacking).items()
    ]
    listed = json.dumps(sorted(files, key=lambda file: file["relpath"]))
    return f"{hashlib.md5(listed.encode()).hexdigest()}.dir"
