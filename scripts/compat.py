"""What the scripts use of DVC, lm-eval and datasets that these do not promise to keep.

tests/scripts/test_compat.py touches each and says where to look when a version moves it.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
