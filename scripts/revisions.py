"""The two sides of a comparison, as Git has them: commits and the workspace, their files and addresses."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sft.core.errors import UserError


@dataclass(frozen=True)
class Side:
    """One side: the files of `commit`, or of the workspace, whose HEAD is `commit`."""

    commit: str
    workspace: bool = False

    def __str__(self) -> str:
        return "the workspace" if self.workspace else f"`{self.commit[:9]}`"

    def read(self, path: str) -> str | None:
        """Return the text of a file, None where there is none; raise UserError for what is no text."""
        if self.workspace:
            content = Path(path).read_bytes() if Path(path).is_file() else None
        else:
            found = _run("cat-file", "blob", f"{self.commit}:{path}")
            content = None if found.returncode else found.stdout
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path} of {self}: not UTF-8 text: {error}. Make it anew.") from error

    def files(self, folder: str) -> list[str]:
        """Return the files right under a folder, sorted."""
        if self.workspace:
            return sorted(str(path) for path in Path(folder).glob("*") if path.is_file())
        return git("ls-tree", "--name-only", self.commit, f"{folder}/").splitlines()

    def committed(self, path: str) -> bool:
        """Tell whether `commit` has the file, and this side has it unchanged."""
        if not succeeds("cat-file", "-e", f"{self.commit}:{path}"):
            return False
        return not self.workspace or succeeds("diff", "--quiet", self.commit, "--", path)


def resolve(revision: str) -> str:
    """Return the commit that a revision names; raise UserError, naming the fetch, where there is none."""
    found = _run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if not found.returncode:
        return found.stdout.decode().strip()
    remote, _, branch = revision.partition("/")
    if branch and remote in git("remote").split():  # a clone of one branch has no other, and fetches no other
        fetch = f"git fetch {remote} {branch}:refs/remotes/{revision}"
    else:
        fetch = "git fetch origin"
    raise UserError(f"{revision}: no such revision here. Check the name, or fetch it first: {fetch}")


def fork(base: str, head: Side) -> tuple[Side, str]:
    """Return what the head is compared with, and how that was chosen, in a sentence.

    It is the commit where the head's branch left `base`, since what came to the base later is no change of
    the branch's; where Git finds none, the base's tip.
    """
    tip = resolve(base)
    found = _run("merge-base", tip, head.commit)
    if not found.returncode:
        side = Side(found.stdout.decode().strip())
        where = "its tip" if side.commit == tip else "where the branch left it"
        return side, f"Compared with `{base}` at {side}, {where}."
    side = Side(tip)
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        return side, (
            f"Compared with the tip of `{base}`, {side}: this clone is shallow and lacks the commit where "
            "the branch left it, so what came to it since then counts as a change of the branch. "
            "`git fetch --unshallow` brings the rest."
        )
    return side, f"Compared with the tip of `{base}`, {side}: the two have no commit in common."


def github(base: str) -> str | None:
    """Return the repository's address on GitHub, by the remote that `base` is of (else origin), or None."""
    remotes = git("remote").split()
    remote = next((name for name in (base.partition("/")[0], "origin") if name in remotes), None)
    if remote is None:
        return None
    url = git("remote", "get-url", remote).strip()
    # Only what follows the host: there may be a password before it.
    found = re.fullmatch(
        r"(?:https://|ssh://|git://)?(?:[^@/]*@)?github\.com[:/]+([^/]+/[^/]+?)(?:\.git)?/?", url
    )
    return f"https://github.com/{found[1]}" if found else None


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Yield a temporary folder that has the files of a commit; the workspace stays as it is."""
    with TemporaryDirectory(prefix="report-") as folder:
        path = Path(folder) / "worktree"
        try:
            # No hooks: one after a checkout may fail, or do what is for the workspace only.
            no_hooks = ("-c", f"core.hooksPath={os.devnull}")
            git(*no_hooks, "worktree", "add", "--quiet", "--detach", str(path), commit)
            yield path
        finally:
            succeeds("worktree", "remove", "--force", str(path))


def git(*arguments: str, folder: Path | str = ".") -> str:
    """Return what a Git command prints; raise UserError with Git's own words where it fails."""
    result = _run(*arguments, folder=folder)
    if result.returncode:
        raise UserError(f"git {' '.join(arguments)} failed: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout.decode()


def succeeds(*arguments: str) -> bool:
    """Tell whether a Git command exits with 0."""
    return not _run(*arguments).returncode


def _run(*arguments: str, folder: Path | str = ".") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True)
