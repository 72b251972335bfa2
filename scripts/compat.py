"""What the scripts use of DVC, lm-eval and datasets that these do not promise to keep.

tests/scripts/test_compat.py touches each and says where to look when a version moves it.
"""

import copy
import hashlib
import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4


def experiment_reference(head: str, name: str) -> str:
    """Return the Git reference of the experiment `name` that began at the commit `head`."""
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


def experiment_commits(name: str) -> list[str]:
    """Return the commits of the experiments called `name`: one for each commit that they began at."""
    listed = subprocess.run(
        ["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/"],
        capture_output=True,
        text=True,
    )
    pattern = re.compile(rf"(\w+) refs/exps/\w{{2}}/\w{{38}}/{re.escape(name)}")
    return [found[1] for line in listed.stdout.splitlines() if (found := pattern.fullmatch(line))]


def folder_hash(folder: Path) -> str:
    """Return the MD5 by which dvc.lock names a folder's content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(folder).as_posix()}
        for path in files
    ]
    return f"{hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()}.dir"


def data_files(folder: Path, under: str) -> list[str]:
    """Return the files that DVC sees in a repository's folder `under`: those of no .dvcignore."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        found = repo.dvcignore.find(repo.fs, repo.fs.join(repo.root_dir, under))
        return [repo.fs.relpath(path, repo.root_dir) for path in found]


def on_hub(dataset: str) -> bool:
    """Tell whether what `datasets.load_dataset` is given is of the hub: no folder, script or kind of file."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return dataset not in _PACKAGED_DATASETS_MODULES and not Path(dataset).exists()


@contextmanager
def load_dataset_by(load: Callable[..., Any]) -> Iterator[None]:
    """Have lm-eval's tasks load their data by `load`: it gets datasets' own function, and its arguments."""
    import datasets

    original = datasets.load_dataset
    datasets.load_dataset = lambda *arguments, **options: load(original, *arguments, **options)
    try:
        yield
    finally:
        datasets.load_dataset = original


def sample_as_json(sample: dict[str, Any]) -> str:
    """Return a sample of lm-eval as JSON, as it writes it itself: NumPy's numbers are in it."""
    from lm_eval.utils import handle_non_serializable

    return json.dumps(sample, default=handle_non_serializable)


def run_experiment_in_copy(options: list[str]) -> int:
    """Call `dvc exp run --temp`, for one experiment only and beside others; return its exit status.

    While it puts down what to run and takes that up, no other that is called by this function begins; and it
    does not look for more at its end, as DVC's own loop does (WorkspaceQueue.reproduce).
    """
    from dvc.cli import main
    from dvc.repo.experiments.queue.tempdir import TempDirQueue
    from filelock import FileLock

    beginning = FileLock(".dvc/tmp/experiment-begins.lock")

    def reproduce(queue: Any, copy_paths: Any = None, message: Any = None) -> dict[str, dict[str, str]]:
        entry, executor = queue.get()
        beginning.release()
        result = queue._reproduce_entry(entry, executor, copy_paths=copy_paths, message=message)
        return dict(result)

    original = TempDirQueue.reproduce
    TempDirQueue.reproduce = reproduce
    try:
        with beginning:
            # Others have DVC's lock for as long as they need to begin, or to record what has come out.
            return int(main(["--wait-for-lock", "exp", "run", "--temp", *options]))
    finally:
        TempDirQueue.reproduce = original


@contextmanager
def dvc_repository(folder: Path | str) -> Iterator[Any]:
    """Yield DVC's own view of a repository, and keep other DVC commands out of it until the block ends."""
    from dvc.repo import Repo, lock_repo

    with Repo(str(folder)) as repo, lock_repo(repo):
        yield repo


def dvc_configuration(folder: Path | str, level: str | None = None) -> dict[str, Any]:
    """Return DVC's configuration: .dvc/config ("repo"), .dvc/config.local ("local"), or all of it."""
    from dvc.config import Config

    return Config(str(Path(folder) / ".dvc")).read(level)


def set_default_remote(folder: Path | str, name: str, options: dict[str, Any]) -> None:
    """Write a remote into .dvc/config, with these options only, and make it the default.

    Not by `dvc remote`, which takes a process of a second for each option.
    """
    from dvc.config import Config

    with Config(str(Path(folder) / ".dvc")).edit("repo") as configuration:
        configuration["remote"][name] = options
        configuration["core"]["remote"] = name


def remote_storage(repo: Any) -> Any:
    """Return the default remote of a repository that `dvc_repository` has opened: its `fs`, `path` and `odb`.

    What comes from it is checked by its hash, whatever the configuration says: without `verify` DVC takes
    whatever the remote has under an object's name. With SSH the host is checked by ~/.ssh/known_hosts, where
    DVC accepts any host (sshfs sets `known_hosts=None`).
    """
    name = repo.config["core"]["remote"]
    repo.config["remote"][name]["verify"] = True
    storage = repo.cloud.get_remote()
    if storage.fs.protocol == "ssh":
        storage.fs.fs_args["known_hosts"] = ()  # asyncssh's default
    return storage


def remote_files(storage: Any, under: str) -> dict[str, int]:
    """Return the files under a remote's folder, by their path in the remote, with their sizes in bytes."""
    from dvc.fs import LocalFileSystem

    fs, folder = storage.fs, storage.fs.join(storage.path, *under.split("/"))
    fs.fs.invalidate_cache()  # fsspec keeps listings for as long as the process lives
    try:
        if isinstance(fs, LocalFileSystem):
            found = {path: fs.size(path) for path in fs.find(folder)}
        else:  # one listing, with sizes; DVC's own `find` has none
            found = {path: info["size"] for path, info in fs.fs.find(folder, detail=True).items()}
    except FileNotFoundError:
        return {}
    return {f"{under}/{fs.as_posix(fs.relpath(path, folder))}": size for path, size in found.items()}


def named_objects(repo: Any) -> set[str]:
    """Return the MD5 hashes of the cached outputs that dvc.lock and the .dvc files name.

    Not by `Repo.used_objs`, which fetches the list of a folder that is not here, and fails where it cannot.
    """
    outs = [out for out in repo.index.outs if out.use_cache and out.can_push and not out.stage.is_repo_import]
    return {str(out.hash_info.value) for out in outs if out.hash_info}


def round_trip(storage: Any) -> bool:
    """Write a small file into a remote, read it, remove it; tell whether it came back as it was."""
    path, content = storage.fs.join(storage.path, f"check-{uuid4().hex}"), uuid4().bytes
    storage.fs.upload_fobj(io.BytesIO(content), path, size=len(content))
    try:
        with storage.fs.open(path, "rb") as file:
            return bool(file.read() == content)
    finally:
        storage.fs.remove(path)


def copy_objects(source: Any, target: Any, hashes: list[str], verify: bool) -> list[BaseException]:
    """Copy objects from one of DVC's stores to another, over what is there; return what went wrong.

    With `verify`, what does not have its hash is not there afterwards, and counts as copied.
    """
    from dvc.fs.callbacks import TqdmCallback

    failed: list[BaseException] = []
    paths = [source.oid_to_path(digest) for digest in hashes]
    with TqdmCallback(desc="Objects", unit="file") as progress:
        target.add(
            paths,
            source.fs,
            hashes,
            check_exists=False,
            verify=verify,
            batch_size=target.fs.jobs,
            callback=progress,
            on_error=lambda _, error: failed.append(error),
        )
    return failed


def copy_files(source: Any, sources: list[str], target: Any, targets: list[str]) -> list[BaseException]:
    """Copy files from one of DVC's file systems to another; return what went wrong."""
    from dvc.fs.callbacks import TqdmCallback
    from dvc_objects.fs.generic import copy

    failed: list[BaseException] = []
    with TqdmCallback(desc="Runs", unit="file") as progress:
        copy(source, sources, target, targets, progress, on_error=lambda *error: failed.append(error[-1]))
    return failed


def is_run_cache_entry(path: Path, name: str) -> bool:
    """Tell whether a file is the run-cache entry `name`: DVC names an entry by a hash of what it says."""
    from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
    from dvc.stage.cache import _get_cache_hash
    from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml
    from voluptuous import Invalid

    try:
        return _get_cache_hash(COMPILED_LOCK_FILE_STAGE_SCHEMA(load_yaml(str(path)))) == name
    except (YAMLFileCorruptedError, Invalid):
        return False


def run_cache_entries(repo: Any, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the run cache's entries of these inputs (cmd, deps, params, outs' paths), the newest first."""
    from dvc.stage.cache import _get_cache_hash

    cache, key = repo.stage_cache, _get_cache_hash(copy.deepcopy(inputs), key=True)  # which changes it
    folder = Path(cache.cache_dir) / key[:2] / key
    runs = sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [entry for run in runs if (entry := cache._load_cache(key, run.name))]


def stage_of_entry(repo: Any, entry: dict[str, Any], folder: str) -> Any:
    """Return a stage of DVC's whose outputs are those of an entry of dvc.lock or of the run cache."""
    return repo.stage_cache._create_stage(entry, wdir=folder)


@contextmanager
def copies_instead_of_links(repo: Any) -> Iterator[None]:
    """Have DVC put copies into the workspace inside, and no links to its cache."""
    with repo.stage_cache._cache_type_copy():
        yield


@dataclass(frozen=True)
class Task:
    """A task of DVC's queue: the experiment, and Celery's message."""

    entry: Any
    message: Any


def begun_tasks(queue: Any) -> list[Task]:
    """Return the tasks that a worker has taken from `repo.experiments.celery_queue`, and not ended."""
    from celery.result import AsyncResult

    return [
        Task(entry, message)
        for message, entry in queue._iter_processed()
        if not AsyncResult(message.headers["id"], app=queue.celery).ready()
    ]


def queued_commits(queue: Any) -> set[str]:
    """Return the stash commits of the tasks that wait for a worker."""
    return {entry.stash_rev for _, entry in queue._iter_queued()}


def queue_again(queue: Any, task: Task) -> None:
    """Send a task to the queue once more, as it was."""
    from dvc.repo.experiments.queue.tasks import run_exp

    arguments, keywords, _ = task.message.decode()
    queue.celery.signature(run_exp.s(*arguments, **keywords)).delay()


def forget_task(queue: Any, task: Task) -> None:
    """Remove a task that a worker has taken."""
    queue.celery.purge(task.message.delivery_tag)
