"""Send to the default remote what this clone has made: what dvc.lock names, and every run of the run cache.

Run as `python -m scripts.push` (make push). `dvc push --run-cache` sends the run cache's entries without the
objects of uncached metrics and plots, and without those of runs other than the last. An entry is of use only
where all its outputs are, so another clone would run all that again. It also counts an entry that could not
be sent as sent, and takes whatever the remote has under an object's name for the object.
"""

from pathlib import Path

from scripts import compat, remote_cache, remote_errors
from scripts.remote import TRY, configured
from scripts.remote_cache import OBJECTS, RUNS, object_path
from sft.core.errors import UserError

AGAIN = f"Nothing is lost: the cache here has it all, and `make push` goes on where it stopped. {TRY}"


def push(folder: Path | str = ".") -> str:
    """Send what the remote lacks; return a sentence on what was sent.

    Objects go first, then the lists of folders, then the run-cache entries, so that nothing in the remote
    names what is not there. An object of another size than its own is sent again.

    Raises UserError where the remote fails (what has been sent stays), and, after everything else is sent,
    where dvc.lock names what neither the cache nor the remote has.
    """
    url = configured(folder)
    with remote_errors.reported(url, AGAIN), compat.dvc_repository(folder) as repo:
        storage = compat.remote_storage(repo)
        cache = Path(repo.cache.local_cache_dir)
        entries, of_entries = _whole_entries(cache)
        wanted = remote_cache.with_content(compat.named_objects(repo), cache) | of_entries
        there = compat.remote_files(storage, OBJECTS)
        absent = remote_cache.lacking(wanted, cache)
        here = {object_path(digest): _size(cache, object_path(digest)) for digest in wanted - absent}
        to_send = sorted(digest for digest in wanted - absent if not _same(object_path(digest), here, there))
        folders = [digest for digest in to_send if digest.endswith(".dir")]
        for part in (sorted(set(to_send) - set(folders)), folders):
            if part:
                failed = compat.copy_objects(repo.cache.local, storage.odb, part, verify=False)
                remote_errors.stop_at(failed, len(part), "sent")
        runs = compat.remote_files(storage, RUNS)
        new = [entry for entry in entries if runs.get(entry) != _size(cache, entry)]
        if new:
            fs = storage.fs
            sources = [str(cache / entry) for entry in new]
            targets = [fs.join(storage.path, *entry.split("/")) for entry in new]
            failed = compat.copy_files(repo.cache.local.fs, sources, fs, targets)
            remote_errors.stop_at(failed, len(new), "sent")
    unknown = {digest for digest in absent if object_path(digest) not in there}
    sent = remote_cache.total(to_send, here)
    if unknown:
        raise UserError(
            f"{len(unknown)} outputs that dvc.lock names are neither here nor in {url}, so no clone "
            f"can get them: `dvc status` names them, `dvc repro` makes them. Pushed: {sent}."
        )
    if not to_send and not new:
        return f"{url} has everything: {len(wanted)} objects, {len(entries)} runs."
    return f"Pushed {sent} and {len(new)} runs to {url}."


def _whole_entries(cache: Path) -> tuple[list[str], set[str]]:
    """Return the run-cache entries whose outputs the cache has, all of them, and these outputs' objects.

    Of the others `dvc gc` has removed something: no clone can use them.
    """
    whole, objects = [], set()
    for entry in remote_cache.entries(cache):
        content = remote_cache.with_content(remote_cache.outputs(cache / entry), cache)
        if not remote_cache.lacking(content, cache):
            whole.append(entry)
            objects |= content
    return whole, objects


def _size(cache: Path, path: str) -> int:
    return (cache / path).stat().st_size


def _same(path: str, here: dict[str, int], there: dict[str, int]) -> bool:
    return here[path] == there.get(path)


if __name__ == "__main__":
    remote_errors.run(push, AGAIN)
