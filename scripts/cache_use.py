"""Which objects of DVC's cache a commit, an experiment or the workspace names, and removing the others.

`dvc gc --all-commits --all-experiments` does nearly this. But it also removes the objects of the metrics and
plots that Git has, which the run cache wants, so that going back to a commit's params would run it all again
(tests/scripts/test_clean_cache.py shows it). It opens every commit by itself, too, and may ask the remote.
"""

import json
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from scripts.revisions import git, succeeds
from sft.core.errors import UserError

CACHE = Path(".dvc/cache")
OBJECTS, RUNS = CACHE / "files/md5", CACHE / "runs"
# In these files DVC names the objects that a commit has.
NAMING = (":(glob)**/dvc.lock", ":(glob)**/*.dvc")
_HASH = re.compile(r"\bmd5: *['\"]?([0-9a-f]{32}(?:\.dir)?)\b")
_EXPERIMENT = re.compile(r"refs/exps/\w{2}/\w{38}/.+")


@dataclass
class CacheUse:
    """Bytes of the cache's objects, by hash: of commits and the workspace, of experiments only, of neither.

    A stash counts as a commit, and a task of DVC's queue as an experiment. What is of neither are results of
    earlier runs, which the run cache would give again.
    """

    commits: dict[str, int] = field(default_factory=dict)
    experiments: dict[str, int] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)


def cache_use() -> CacheUse:
    """Look through the cache of the repository that we are in; raise UserError where Git cannot tell.

    An object counts as named wherever its hash stands in a dvc.lock or a .dvc file, so no more is taken for
    unused than is.
    """
    stashes = git("stash", "list", "--format=%H").split()
    commits = _with_files(
        # With what is staged, and the commits that other worktrees have checked out: --all has these.
        _named_in("--indexed-objects", "--exclude=refs/exps/*", "--all", "HEAD", *stashes) | _named_here()
    )
    experiments = _with_files(_named_in("--all", *_stashed_by_dvc()))
    use = CacheUse()
    for path in sorted(OBJECTS.glob("??/*")):
        digest, size = f"{path.parent.name}{path.name}", path.stat().st_size
        of = use.commits if digest in commits else use.experiments if digest in experiments else use.unused
        of[digest] = size
    return use


def remove_unused() -> None:
    """Remove the unused objects, and the run cache's entries of runs that are then incomplete.

    DVC's own lock is held meanwhile. Raises UserError where the cache is a folder elsewhere, which other
    repositories may use, and where DVC holds its lock.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo

    with Repo() as repo:
        if Path(repo.cache.local.path).resolve() != OBJECTS.resolve():
            raise UserError(
                f"{repo.cache.local.path}: the cache is not in this repository, so others may use it, and "
                "what they need is not known here. Use `dvc gc` with all of them as --projects."
            )
        try:
            with repo.lock:
                for digest in cache_use().unused:
                    _path(digest).unlink()
                _remove_incomplete_runs()
        except LockError as error:
            raise UserError("DVC is at work in this repository. Wait for it to end.") from error


def _remove_incomplete_runs() -> None:
    for entry in RUNS.glob("*/*/*"):
        outs = entry.read_text(encoding="utf-8", errors="replace").rpartition("\nouts:")[2]
        if not all(_path(digest).exists() for digest in _HASH.findall(outs)):
            entry.unlink()
            for folder in (entry.parent, entry.parent.parent):
                with suppress(OSError):  # it holds other entries
                    folder.rmdir()


def _path(digest: str) -> Path:
    return OBJECTS / digest[:2] / digest[2:]


def _stashed_by_dvc() -> list[str]:
    """Return the commits on the stashes of DVC's: what is queued, has failed, or was put aside for `apply`.

    As of Git's stash, a reference names the last one only, and its reflog names all.
    """
    references = git("for-each-ref", "--format=%(refname)", "refs/exps/").split()
    stashes = [name for name in references if not _EXPERIMENT.fullmatch(name)]
    return [
        commit
        for name in stashes
        if succeeds("reflog", "exists", name)
        for commit in git("reflog", "show", "--format=%H", name).split()
    ]


def _named_in(*revisions: str) -> set[str]:
    """Return the hashes that the commits reachable from `revisions` name."""
    lines = git("rev-list", "--objects", *revisions, "--", *NAMING).splitlines()
    blobs = [
        name
        for name, _, path in (line.partition(" ") for line in lines)
        if path.endswith(("dvc.lock", ".dvc"))
    ]
    # One process for all of them: a blob that many commits share is read once.
    contents = subprocess.run(
        ["git", "cat-file", "--batch"], input="\n".join(blobs).encode(), capture_output=True, check=True
    ).stdout
    return set(_HASH.findall(contents.decode(errors="replace")))


def _named_here() -> set[str]:
    """Return the hashes that the workspace's files name, committed or not."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *NAMING).split("\0")
    found: set[str] = set()
    for path in map(Path, filter(None, listed)):
        if path.is_file():
            found.update(_HASH.findall(path.read_text(encoding="utf-8", errors="replace")))
    return found


def _with_files(named: set[str]) -> set[str]:
    """Add the files of the folders that are named; a folder's object lists them."""
    found = set(named)
    for digest in named:
        path = _path(digest)
        if digest.endswith(".dir") and path.is_file():
            try:
                found.update(entry["md5"] for entry in json.loads(path.read_bytes()))
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{path}: damaged: it does not list a folder's files ({error}). Delete it, and get it "
                    "again: dvc pull, or dvc repro."
                ) from error
    return found
