"""Which files of a folder differ from the folder that a stage has read, by Git's history.

dvc.lock has one hash of a whole folder, and DVC keeps no copy of code. The commit whose folder has that
hash has the files.
"""

import hashlib
import json
import subprocess
from pathlib import Path

from scripts.revisions import git

COMMITS = 20  # looked through, from HEAD back: what ran longer ago is said without its files


def changed_files(folder: str, read: str) -> list[str]:
    """Return the files, relative to `folder`, that differ from those with the hash `read` of dvc.lock.

    Nothing where no recent commit has these.
    """
    for commit in git("rev-list", "HEAD", f"--max-count={COMMITS}", "--", folder).split():
        if _hash_at(commit, folder) == read:
            changed = git("diff", "--name-only", "-z", commit, "--", folder)
            new = git("ls-files", "--others", "--exclude-standard", "-z", "--", folder)
            paths = {path for path in (changed + new).split("\0") if path}
            return sorted(Path(path).relative_to(folder).as_posix() for path in paths)
    return []


def _hash_at(commit: str, folder: str) -> str:
    """Return the MD5 by which dvc.lock names a folder's content (compat.folder_hash), as a commit has it."""
    entries = [
        line.split("\t") for line in git("ls-tree", "-r", "-z", commit, folder + "/").split("\0") if line
    ]
    blobs = [about.split()[2] for about, _ in entries]
    paths = [Path(path).relative_to(folder).as_posix() for _, path in entries]
    listed = [
        {"md5": hashlib.md5(content).hexdigest(), "relpath": path}
        for path, content in sorted(
            zip(paths, _contents(blobs), strict=True), key=lambda one: Path(one[0]).parts
        )
    ]
    return f"{hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()}.dir"


def _contents(blobs: list[str]) -> list[bytes]:
    asked = "".join(f"{blob}\n" for blob in blobs).encode()
    answer = subprocess.run(
        ["git", "cat-file", "--batch"], input=asked, capture_output=True, check=True
    ).stdout
    found, at = [], 0
    for _ in blobs:
        header, start = answer[at : answer.index(b"\n", at)], answer.index(b"\n", at) + 1
        size = int(header.split()[2])
        found.append(answer[start : start + size])
        at = start + size + 1
    return found
