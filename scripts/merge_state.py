"""The merge, rebase or cherry-pick that is going on in this clone, and its sides."""

from dataclasses import dataclass
from pathlib import Path

from scripts.revisions import git, succeeds

# What Git calls the other side, and how one goes on afterwards.
GOING_ON = {
    "MERGE_HEAD": "git commit --no-edit",
    "REBASE_HEAD": "git rebase --continue",
    "CHERRY_PICK_HEAD": "git cherry-pick --continue",
    "REVERT_HEAD": "git revert --continue",
}


@dataclass(frozen=True)
class Merge:
    """The commits that are merged, the current branch's first; `then` goes on, None where it is done."""

    sides: list[str]
    then: str | None


def merging() -> Merge | None:
    """Return the merge that is going on; None where there is none."""
    folder = Path(git("rev-parse", "--absolute-git-dir").strip())
    for name, then in GOING_ON.items():
        # Git leaves REBASE_HEAD behind.
        going_on = (folder / name).exists() and (
            name != "REBASE_HEAD"
            or any((folder / where).exists() for where in ("rebase-merge", "rebase-apply"))
        )
        if going_on:
            others = (folder / name).read_text(encoding="utf-8").split()
            return Merge([git("rev-parse", "HEAD").strip(), *others], then)
    return None


def last_merge() -> Merge | None:
    """Return HEAD as a merge of itself, which may have run since, and its parents; None where it is none."""
    if not succeeds("rev-parse", "--verify", "--quiet", "HEAD^2"):
        return None
    return Merge(git("rev-parse", "HEAD", "HEAD^@").split(), None)
