"""Bring what the default remote has: what dvc.lock names, and the runs of other clones, with their outputs.

Run as `python -m scripts.pull` (make pull). `dvc pull --run-cache` brings the entries of the run cache
without their outputs, so what another clone has run beyond dvc.lock runs again here, but with `--pull`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts import compat, remote_cache, remote_errors
from scripts.processes import check_workspace_is_free
from scripts.remote import TRY, configured
from scripts.remote_cache import OBJECTS, RUNS, object_path
from sft.core.errors import UserError

SHOWN = 3  # outputs that changed here
AGAIN = f"What has come is kept, and `make pull` goes on where it stopped. {TRY}"


def pull(folder: Path | str = ".") -> str:
    """Bring what this clone lacks and check out what dvc.lock names; return a sentence on it.

    Every object is checked by its hash. A run-cache entry is put into the cache after all its outputs,
    and is left out where the remote has not all of them: DVC looks at the newest entry of a key only, so
    one without its outputs would hide another that has them.

    Raises UserError where the remote fails, where it lacks what dvc.lock names (what there is has come
    then), where a stage or DVC runs here, and where what it has is damaged.
    """
    url = configured(folder)
    with remote_errors.reported(url, AGAIN), compat.dvc_repository(folder) as repo:
        check_workspace_is_free(Path(folder).resolve())  # for what is checked out
        cache, storage = Path(repo.cache.local_cache_dir), compat.remote_storage(repo)
        there = compat.remote_files(storage, OBJECTS)
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix="pull-") as temporary:
            entries, damaged = _new_entries(repo, storage, Path(temporary))
            named = compat.named_objects(repo)
            outputs = {path: remote_cache.outputs(file) for path, file in entries.items()}
            asked = _bring(repo, storage, named.union(*outputs.values()), there)
            damaged += [object_path(digest) for digest in sorted(remote_cache.lacking(asked, cache))]
            whole = [path for path in outputs if not _lacking(outputs[path], cache)]
            for path in whole:
                (cache / path).parent.mkdir(parents=True, exist_ok=True)
                entries[path].replace(cache / path)
        absent = _lacking(named, cache)
        result = repo.pull(allow_missing=bool(absent))
        changed = [path for how in ("added", "modified", "deleted") for path in result.get(how, [])]
        if damaged:
            others = f" and {len(damaged) - 1} more" * (len(damaged) > 1)
            raise UserError(
                f"{url}: damaged there, and left out: {damaged[0]}{others}. In a clone that has what was "
                "made, `make push` sends again what was cut short; delete there first what is not."
            )
        if absent:
            raise UserError(
                f"{url} lacks {len(absent)} of the objects that dvc.lock names: `make push` in the clone "
                "that has run it, or make them here: dvc repro"
            )
    got = remote_cache.total(asked, there)
    here = f" Changed here: {_named(changed)}." if changed else ""
    return f"Pulled {got} and {len(whole)} runs from {url}.{here}"


def _new_entries(repo: Any, storage: Any, temporary: Path) -> tuple[dict[str, Path], list[str]]:
    """Bring the run-cache entries that are not here into a folder; return where, and the damaged ones."""
    cache, fs = Path(repo.cache.local_cache_dir), storage.fs
    listed = sorted(filter(remote_cache.is_entry, compat.remote_files(storage, RUNS)))
    files = {path: temporary / path for path in listed if not (cache / path).exists()}
    sources = [fs.join(storage.path, *path.split("/")) for path in files]
    if files:
        targets = [str(path) for path in files.values()]
        failed = compat.copy_files(fs, sources, repo.cache.local.fs, targets)
        remote_errors.stop_at(failed, len(files), "had")
    damaged = [path for path, file in files.items() if not compat.is_run_cache_entry(file, file.name)]
    return {path: file for path, file in files.items() if path not in damaged}, damaged


def _bring(repo: Any, storage: Any, outputs: set[str], there: dict[str, int]) -> set[str]:
    """Bring the objects of outputs that the remote has and this clone lacks; return which they were.

    Those that were damaged are not in the cache then.
    """
    cache, asked = Path(repo.cache.local_cache_dir), set[str]()
    for _ in ("outputs", "the files that folders among them list"):
        lacking = _lacking(outputs, cache) - asked
        part = sorted(digest for digest in lacking if object_path(digest) in there)
        asked.update(part)
        if part:
            failed = compat.copy_objects(storage.odb, repo.cache.local, part, verify=True)
            remote_errors.stop_at(failed, len(part), "had")
    return asked


def _named(paths: list[str]) -> str:
    names = [Path(path).as_posix() for path in paths[:SHOWN]]
    return ", ".join(names) + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")


def _lacking(outputs: set[str], cache: Path) -> set[str]:
    return remote_cache.lacking(remote_cache.with_content(outputs, cache), cache)


if __name__ == "__main__":
    remote_errors.run(pull, AGAIN)
