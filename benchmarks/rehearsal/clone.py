"""A fresh copy of this repository, as a user who has just cloned it has it."""

import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AUTHOR = b"Rehearsal <rehearsal@example.org>"


def make(folder: Path) -> None:
    """Clone the last commit into `folder`; without Git, or a repository, copy the tree and commit that.

    Then by Dulwich, which DVC brings: a machine for computing may have no Git.
    """
    if shutil.which("git") and (ROOT / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        return
    from dulwich import porcelain

    # A tree without outputs, as `git archive` makes it; what DVC and Python leave there stays there.
    left = shutil.ignore_patterns(".git", ".venv", "__pycache__", "cache", "tmp")
    shutil.copytree(ROOT, folder, ignore=left)
    porcelain.init(str(folder)).close()
    commit(folder, "The project")


def commit(folder: Path, message: str) -> None:
    """Commit all that has changed and that Git does not ignore."""
    from dulwich import porcelain

    with chdir(folder):
        porcelain.add()
        porcelain.commit(message=message, author=AUTHOR, committer=AUTHOR, all=True)
