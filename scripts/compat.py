"""What the scripts use of DVC that it does not promise to keep.

tests/scripts/test_compat.py touches each and says where to look when a version moves it.
"""

import hashlib
import json
import re
import subprocess
from pathlib import Path


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
