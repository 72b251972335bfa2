"""The workspace after a killed `dvc exp run` or `dvc exp apply`: on its branch, nothing of the user's lost.

experiment_state.py says what DVC does in which order. What lies where something is put back goes onto Git's
stash.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from scripts import experiment_state as state
from scripts.lock_entries import Entry, entries_of, locked_entries, outputs
from scripts.params_change import changed, command
from scripts.revisions import Side, git, succeeds
from sft.core.errors import UserError
from stages.cli import LOCK, PARAMS


def rescue_workspace() -> list[str]:
    """Finish what a dead command has left undone; return what to tell the user.

    Raises UserError where HEAD or the branch has commits from after the command: nothing was touched then.
    """
    said = []
    if state.reference(f"{state.EXEC}/EXEC_BASELINE"):
        said += _killed_in_a_run()
    elif state.SAVED in (state.writers(state.RWLOCKS[1]) or {}):
        said += _killed_before_the_run()
    elif state.killed_in_apply():
        said += _killed_in_apply()
    elif state.arguments_are_tracked():  # killed before the run, and a later command has removed the signs
        place = _place_before(git("rev-parse", "HEAD").strip(), ended=False)
        state.forget_arguments()
        _return_to(place)
        said.append(
            f"A `dvc exp run` was killed before it began. You are {place}. {PARAMS} may have its params: "
            f"git diff HEAD {PARAMS}. Your own changes may be on Git's stash: git stash show -p"
        )
    for one in state.saved():  # DVC would run it after the next experiment
        here, saved = Path(PARAMS).read_text(encoding="utf-8"), git("show", f"{one.commit}:{PARAMS}")
        again = command(one.name, one.commit, here, saved)
        said.append(f"Experiment `{one.name}` was not begun. Go on with: {again}")
    if state.reference(state.SAVED):
        git("update-ref", "-d", state.SAVED)
    return said


def _killed_in_a_run() -> list[str]:
    """Do what DVC does at the end of an experiment."""
    head = git("rev-parse", "HEAD").strip()
    began = state.reference(f"{state.EXEC}/EXEC_HEAD") or head
    experiment = state.reference(f"{state.EXEC}/EXEC_MERGE")
    about = state.described_by(experiment) if experiment else None
    name = about.name if about else state.running_name()
    ended = head != began and head == state.reference(f"{state.EXEC}/EXEC_BRANCH")
    place = _place_before(began, ended)
    if experiment and not ended and not state.RUNNING.exists():
        _apply(began, experiment)
    _return_to(place)
    state.forget_execution()
    if ended:
        return [
            f"Experiment `{name}` had ended: it is kept (dvc exp show), and its results are in the workspace."
            f" You are {place}."
        ]
    here = changed(git("show", f"{began}:{PARAMS}"), Path(PARAMS).read_text(encoding="utf-8"))
    differing = ", ".join(f"{param} {old} -> {new}" for param, old, new in here) or "none"
    own = _own_changes(began)
    yours = f"your own changes of {', '.join(own)}, " if own else ""
    commits = " ".join(["git checkout -- .", *(shlex.quote(f":!{path}") for path in own)])
    said = [
        f"Experiment `{name}` was killed. You are {place}.",
        f"The workspace has {yours}the params of `{name}` (against "
        f"the commit: {differing}) and the results of the stages that ended: {_ended(began)}.",
    ]
    if begun := _begun(began):
        said.append(
            f"Stage {', '.join(begun)} had begun, and DVC had deleted its earlier results: `git status` has "
            "them as deleted."
        )
    return [
        *said,
        f"Go on with: dvc exp run -n {name}",
        f"Or give it up, and have the commit's params and results: {commits} && dvc checkout",
    ]


def _killed_before_the_run() -> list[str]:
    """Take the user's changes back, which are on Git's stash for as long as DVC saves an experiment."""
    stashed, was_detached = state.stashed_by_dvc(), state.detached()
    place = _place_before(git("rev-parse", "HEAD").strip(), ended=False)
    state.forget_arguments()
    if not stashed:
        _return_to(place)
        return [f"`dvc exp run` was killed before it began. You are {place}."] if was_detached else []
    kept = None
    if not succeeds("diff", "--quiet", "HEAD"):
        kept = None if succeeds("diff", "--quiet", stashed) else _put_aside()
        git("reset", "--quiet", "--hard")
    _return_to(place)
    git("stash", "apply", "--quiet", "--index", stashed)
    state.drop_from_stash(stashed)
    return [
        f"`dvc exp run` was killed before it began. You are {place}, with your own changes as before it.",
        *_said_of(kept),
    ]


def _killed_in_apply() -> list[str]:
    """Undo what `dvc exp apply` had begun: the user's changes are on a stash of DVC's."""
    stashed = state.reference(f"{state.APPLY}/stash")
    experiment = state.applied_by_stash() or git("rev-parse", "HEAD").strip()
    place = _place_before(git("rev-parse", f"{state.APPLY}/ORIG_HEAD").strip(), ended=True)
    kept = None if succeeds("diff", "--quiet", experiment) else _put_aside()
    git("reset", "--quiet", "--hard")
    _return_to(place)
    git("reset", "--quiet", "--hard")
    if stashed:
        _remove_restored(stashed)
        git("stash", "apply", "--quiet", "--index", stashed)
    git("update-ref", "-d", f"{state.APPLY}/ORIG_HEAD")
    return [
        f"`dvc exp apply` was killed. You are {place}, with your own changes as before it: apply it again.",
        *_said_of(kept),
    ]


@dataclass(frozen=True)
class Place:
    """Where HEAD was before: on a branch, or at a commit on none; and whether it has left it."""

    branch: str | None
    commit: str
    left: bool

    def __str__(self) -> str:
        where = f"on `{self.branch}`" if self.branch else f"at {self.commit[:9]}, on no branch as before"
        return f"{where} again" if self.left and self.branch else where


def _place_before(began: str, ended: bool) -> Place:
    """Return where HEAD was; `ended` where it is at a commit of DVC's.

    Raises UserError where HEAD or the branch has moved since.
    """
    head = git("rev-parse", "HEAD").strip()
    if not state.detached():
        return Place(git("symbolic-ref", "--short", "HEAD").strip(), head, left=False)
    branch = state.branch_before()
    if branch and state.reference(f"refs/heads/{branch}") != began:
        raise UserError(
            f"`{branch}` has other commits than when the experiment began, so nothing was touched. Keep what "
            f"is here: git stash. Then: git switch {branch}, make rescue and git stash pop"
        )
    if head != began and not ended:
        raise UserError("HEAD has commits that are on no branch. Name them first: git branch NAME")
    return Place(branch, began, left=True)


def _return_to(place: Place) -> None:
    """Put HEAD back, and leave the files as they are."""
    if place.left and place.branch:
        git("symbolic-ref", "-m", "rescue: back to the branch", "HEAD", f"refs/heads/{place.branch}")
    elif place.left:
        git("update-ref", "--no-deref", "HEAD", place.commit)
    git("reset", "--quiet")


def _apply(began: str, experiment: str) -> None:
    """Have the files of a saved experiment, where they are still those of the commit that it began at."""
    for path in git("diff", "--name-only", "-z", began, experiment).split("\0"):
        if path and path != str(state.ARGUMENTS) and succeeds("diff", "--quiet", began, "--", path):
            if succeeds("cat-file", "-e", f"{experiment}:{path}"):
                git("checkout", "--quiet", experiment, "--", path)
            else:
                Path(path).unlink(missing_ok=True)


def _put_aside() -> str | None:
    """Put what differs from HEAD onto Git's stash, and leave it here too; return its commit."""
    kept = git("stash", "create", "before make rescue").strip()
    if kept:
        git("stash", "store", "-m", "before make rescue", kept)
    return kept or None


def _said_of(kept: str | None) -> list[str]:
    return ["What lay in their place is on Git's stash: git stash show -p"] if kept else []


def _remove_restored(stashed: str) -> None:
    """Remove the untracked files that DVC has taken back from a stash already, unchanged."""
    untracked = f"{stashed}^3"
    if state.reference(untracked):
        for path in git("ls-tree", "-r", "-z", "--name-only", untracked).split("\0"):
            if path and Path(path).is_file():
                here = git("hash-object", "--", path).strip()
                if here == git("rev-parse", f"{untracked}:{path}").strip():
                    Path(path).unlink()


def _ended(commit: str) -> str:
    """Name the stages whose results in dvc.lock are not the commit's."""
    here, before = _entries_here(), _entries_of(commit)
    if here is None:
        return "unknown"
    return ", ".join(name for name, entry in here.items() if entry != before.get(name)) or "none"


def _entries_here() -> dict[str, Entry] | None:
    """Return the entries of dvc.lock; None where it is half-written."""
    try:
        return locked_entries()
    except UserError:
        return None


def _entries_of(commit: str) -> dict[str, Entry]:
    return entries_of(Side(commit).read(LOCK), f"{LOCK} of {commit[:9]}")


def _begun(commit: str) -> list[str]:
    """Name the stages of which results in Git are gone: DVC deletes them at a stage's begin."""
    deleted = set(git("diff", "--name-only", "--diff-filter=D", "-z", commit).split("\0"))
    return [name for name, entry in _entries_of(commit).items() if deleted.intersection(outputs(entry))]


def _own_changes(commit: str) -> list[str]:
    """Name the files of Git's that the user has changed, but for params.yaml: nobody can tell whose it is."""
    entries = [*_entries_of(commit).values(), *(_entries_here() or {}).values()]
    made = {LOCK, PARAMS} | {path for entry in entries for path in outputs(entry)}
    return [
        path for path in git("diff", "--name-only", "-z", commit).split("\0") if path and path not in made
    ]
