"""Bring the user back to their branch after a `dvc exp run` that was killed, with params and results.

Run as `python -m scripts.rescue` (`make rescue`). Says what it found and what is where now. The workspace is then
what DVC itself leaves where a stage fails: the user's own changes, the experiment's params, and the results of
the stages that ended, on the branch of before. An experiment that had ended is kept. Temporary copies of dead
`--temp` runs are removed, and tasks of a queue whose workers are dead are queued again.

While a DVC command is running in the repository nothing is touched. Of Git, only uncommitted changes that DVC
itself has put aside are taken back; what lay in their place is put onto Git's stash.
"""

import shutil
import sys
from pathlib import Path

from scripts import experiment_state as state
from scripts.live_processes import dvc_commands, pids_of_git, stop_orphans
from scripts.params_change import as_options, changed
from scripts.revisions import Side, git, succeeds
from scripts.stage_entries import entries_of, locked_entries
from sft.core import params
from sft.core.errors import UserError
from stages.cli import LOCK, PARAMS, described


def rescue() -> list[str]:
    """Do it, in the repository here; return what to tell the user.

    Raises UserError where DVC is running, or where HEAD has commits of the user's on no branch.
    """
    root = Path.cwd().resolve()
    if not (root / ".dvc").is_dir():
        raise UserError("This is no DVC repository. Run it in the project's folder.")
    commands = dvc_commands(root)
    if busy := [command for command in commands if not command.queue]:
        running = "; ".join(f"process {command.pid}: {command.line}" for command in busy)
        raise UserError(
            f"DVC is running here, so nothing was touched. Wait for its end, or stop it. {running}"
        )
    said = stop_orphans(root) + _index_lock(root)
    said += _workspace() + _damaged_lock()
    if commands:
        said.append("The queue's workers are running: their temporary copies and tasks were left alone.")
    else:
        said += [line for folder in state.temporary_copies() for line in _temporary_copy(folder)]
        if names := state.requeue():
            said.append(
                f"Queued again, for its worker was dead: {', '.join(names)}. Go on with: dvc queue start"
            )
        for lock in state.RWLOCKS:  # of no running command
            lock.unlink(missing_ok=True)
    return said or [
        "Nothing to rescue: no experiment was killed here, as far as DVC's and Git's state tells."
    ]


def _workspace() -> list[str]:
    """Finish what a dead command has left undone in the workspace."""
    said = []
    saving = state.SAVED in (state.writers(state.RWLOCKS[1]) or {})
    if state.reference(f"{state.EXEC}/EXEC_BASELINE"):
        said += _killed_in_a_run()
    elif saving:
        said += _killed_before_the_run()
    elif state.killed_in_apply():
        said += _killed_in_apply()
    for one in state.saved():  # DVC would run it after the next experiment
        options = as_options(changed(Path(PARAMS).read_text("utf-8"), git("show", f"{one.commit}:{PARAMS}")))
        said.append(
            f"Experiment `{one.name}` was not begun. Go on with: dvc exp run -n {one.name} {options}".rstrip()
        )
    if state.reference(state.SAVED):
        git("update-ref", "-d", state.SAVED)
    return said


def _killed_in_a_run() -> list[str]:
    head = git("rev-parse", "HEAD").strip()
    began = state.reference(f"{state.EXEC}/EXEC_HEAD") or head
    experiment = state.reference(f"{state.EXEC}/EXEC_MERGE")
    about = state.described_by(experiment) if experiment else None
    name = about.name if about else state.running().get("name") or "of unknown name"
    ended = head != began and head == state.reference(f"{state.EXEC}/EXEC_BRANCH")
    if experiment and not ended and not state.RUNNING.exists():
        _apply(began, experiment)
    where = _back(began, ended)
    state.forget_execution()
    if ended:
        return [
            f"Experiment `{name}` had ended: it is kept, and its results are in the workspace. You are {where}."
        ]
    return [
        f"Experiment `{name}` was killed. You are {where}.",
        f"The workspace has your own changes, the params of `{name}` (against the commit: {_params_here(began)}) and "
        f"the results of the stages that ended: {_ended(began)}.",
        f"Go on with: dvc exp run -n {name}",
    ]


def _killed_before_the_run() -> list[str]:
    """Take the user's changes back, which DVC puts onto Git's stash for as long as it saves an experiment."""
    stashed = state.stashed_by_dvc()
    was_detached = state.detached()
    where = _back(git("rev-parse", "HEAD").strip(), ended=False)
    git("rm", "--cached", "--quiet", "--force", "--ignore-unmatch", "--", str(state.ARGUMENTS))
    state.ARGUMENTS.unlink(missing_ok=True)
    if stashed:
        kept = None
        if not succeeds("diff", "--quiet", "HEAD"):
            kept = None if succeeds("diff", "--quiet", stashed) else _put_aside()
            git("reset", "--quiet", "--hard")
        git("stash", "apply", "--quiet", "--index", stashed)
        state.drop_from_stash(stashed)
        return [
            f"`dvc exp run` was killed before it began. You are {where}, with your own changes as before it.",
            *_said_of(kept),
        ]
    if was_detached:
        return [
            f"`dvc exp run` was killed before it began. You are {where}; params here: {_params_here('HEAD')}."
        ]
    return []


def _killed_in_apply() -> list[str]:
    """Undo what `dvc exp apply` had begun: the user's changes are on a stash of DVC's."""
    stashed = state.reference(f"{state.APPLY}/stash")
    experiment = state.applied_by_stash() or git("rev-parse", "HEAD").strip()
    kept = None if succeeds("diff", "--quiet", experiment) else _put_aside()
    where = _back(git("rev-parse", f"{state.APPLY}/ORIG_HEAD").strip(), ended=True)
    git("reset", "--quiet", "--hard")
    if stashed:
        _remove_restored(stashed)
        git("stash", "apply", "--quiet", "--index", stashed)
    git("update-ref", "-d", f"{state.APPLY}/ORIG_HEAD")
    return [
        f"`dvc exp apply` was killed. You are {where}, with your own changes as before it: apply it again.",
        *_said_of(kept),
    ]


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


def _back(began: str, ended: bool) -> str:
    """Put HEAD back to where it was, and leave the files as they are; return where that is.

    Raises UserError where HEAD has commits that are neither there nor an experiment's.
    """
    if not state.detached():
        git("reset", "--quiet")
        return f"on `{git('symbolic-ref', '--short', 'HEAD').strip()}`"
    head = git("rev-parse", "HEAD").strip()
    branch = state.branch_before()
    if branch and state.reference(f"refs/heads/{branch}") != began:
        raise UserError(
            f"`{branch}` has other commits than when the experiment began. Put what is here onto it by hand."
        )
    if head != began and not ended:
        raise UserError("HEAD has commits that are on no branch. Name them first: git branch NAME")
    if branch:
        git("symbolic-ref", "-m", "rescue: back to the branch", "HEAD", f"refs/heads/{branch}")
    else:
        git("update-ref", "--no-deref", "HEAD", began)
    git("reset", "--quiet")
    return f"on `{branch}` again" if branch else f"at {began[:9]} again, on no branch as before"


def _apply(began: str, experiment: str) -> None:
    """Have the files of a saved experiment, where they are still those of the commit that it began at."""
    for path in git("diff", "--name-only", "-z", began, experiment).split("\0"):
        if path and path != str(state.ARGUMENTS) and succeeds("diff", "--quiet", began, "--", path):
            if succeeds("cat-file", "-e", f"{experiment}:{path}"):
                git("checkout", "--quiet", experiment, "--", path)
            else:
                Path(path).unlink(missing_ok=True)


def _temporary_copy(folder: Path) -> list[str]:
    """Keep what an experiment in a temporary copy has committed, else say how to begin it again; remove the copy."""
    said = []
    references = git("for-each-ref", "--format=%(refname)", "refs/exps/", folder=folder).split()
    ended = [ref for ref in references if not ref.startswith((f"{state.EXEC}/", f"{state.SAVED}"))]
    for reference in ended:
        if not state.reference(reference):
            git("fetch", "--quiet", str(folder.resolve()), f"{reference}:{reference}")
        said.append(f"Experiment `{Path(reference).name}` had ended in a temporary copy: it is kept.")
    if not ended and folder.parent.name == "standalone" and f"{state.EXEC}/EXEC_MERGE" in references:
        commit = git("rev-parse", f"{state.EXEC}/EXEC_MERGE", folder=folder).strip()
        if about := state.described_by(commit):
            options = as_options(
                changed(git("show", f"{about.baseline}:{PARAMS}"), git("show", f"{commit}:{PARAMS}"))
            )
            said.append(
                f"Experiment `{about.name}` was killed in a temporary copy. The results of its stages that ended are "
                f"in the cache. Go on with: dvc exp run --temp -n {about.name} {options}".rstrip()
            )
    shutil.rmtree(folder, ignore_errors=True)
    return [*said, f"Removed the temporary copy {folder}."]


def _index_lock(root: Path) -> list[str]:
    lock = Path(git("rev-parse", "--absolute-git-dir").strip()) / "index.lock"
    if not lock.exists() or pids_of_git(root):
        return []
    lock.unlink()
    return [f"Removed {lock.name}, which a killed Git command had left."]


def _damaged_lock() -> list[str]:
    """Take dvc.lock from Git where DVC was killed while it wrote it; not where it is in conflict."""
    text = Path(LOCK).read_text(encoding="utf-8", errors="replace") if Path(LOCK).exists() else ""
    try:
        if not Path(LOCK).exists() or "<<<<<<<" in text or params.parse(text, LOCK):
            return []
    except UserError:
        pass
    git("checkout", "--quiet", "HEAD", "--", LOCK)
    return [
        f"{LOCK} was half-written: it is the commit's again. `dvc repro` finds later runs in the run cache."
    ]


def _params_here(commit: str) -> str:
    lines = changed(git("show", f"{commit}:{PARAMS}"), Path(PARAMS).read_text(encoding="utf-8"))
    return ", ".join(f"{name} {old} -> {new}" for name, old, new in lines) or "no difference"


def _ended(commit: str) -> str:
    """Name the stages whose results in dvc.lock are not the commit's."""
    here, before = locked_entries(), entries_of(Side(commit).read(LOCK), f"{LOCK} of {commit[:9]}")
    return ", ".join(name for name, entry in here.items() if entry != before.get(name)) or "none"


if __name__ == "__main__":
    try:
        print("\n".join(rescue()))
    except UserError as error:
        sys.exit(f"error: {described(error)}")
