"""Bring the user back to their branch after a `dvc exp run` that was killed, with params and results.

Run as `python -m scripts.rescue` (`make rescue`). Says what it found and what is where now. The workspace is
then what DVC itself leaves where a stage fails: the user's own changes, the experiment's params, and the
results of the stages that ended, on the branch of before. An experiment that had ended is kept. Temporary
copies of dead `--temp` runs are removed, and tasks of a queue whose workers are dead are queued again.

While a DVC command is running in the repository nothing is touched.
"""

import shutil
from pathlib import Path

from scripts import command, params_change
from scripts import experiment_state as state
from scripts.lock_entries import is_lock
from scripts.processes import check_no_dvc, pids_of_git, stop_orphans
from scripts.rescue_workspace import rescue_workspace
from scripts.revisions import Side, git
from sft.core.errors import UserError
from stages.cli import LOCK, PARAMS


def rescue() -> list[str]:
    """Do it, in the repository here; return what to tell the user.

    Raises UserError where DVC is running, or where commits were made since.
    """
    root = Path.cwd().resolve()
    if not (root / ".dvc").is_dir():
        raise UserError("This is no DVC repository. Run it in the project's folder.")
    commands = check_no_dvc(root)
    said = stop_orphans(root) + _git_locks(root, bool(commands)) + rescue_workspace() + _half_written_lock()
    if commands:
        said.append("The queue's workers are running: their temporary copies and tasks were left alone.")
    else:
        said += [line for folder in state.temporary_copies() for line in _temporary_copy(folder)]
        if names := state.requeue():
            said.append(f"Queued again, for the worker was dead: {', '.join(names)}. Go on: dvc queue start")
        for lock in state.RWLOCKS:  # of no running command; DVC cannot read one that is half-written
            lock.unlink(missing_ok=True)
    branch = state.branch_before() if state.detached() else None
    if branch and state.reference(f"refs/heads/{branch}") == state.reference("HEAD"):
        said.append(f"You are on no branch, at the last commit of `{branch}`: git switch {branch}")
    return said or ["Nothing to rescue: no command of DVC's was killed here, by all that it leaves."]


def _temporary_copy(folder: Path) -> list[str]:
    """Keep what an experiment in a temporary copy has committed, else say how to go on; remove the copy."""
    said = []
    references = git("for-each-ref", "--format=%(refname)", "refs/exps/", folder=folder).split()
    ended = [ref for ref in references if not ref.startswith((f"{state.EXEC}/", state.SAVED))]
    for reference in ended:
        if not state.reference(reference):
            git("fetch", "--quiet", str(folder.resolve()), f"{reference}:{reference}")
        said.append(f"Experiment `{Path(reference).name}` had ended in a temporary copy: it is kept.")
    if not ended and folder.parent.name == "standalone" and f"{state.EXEC}/EXEC_MERGE" in references:
        commit = git("rev-parse", f"{state.EXEC}/EXEC_MERGE", folder=folder).strip()
        if about := state.described_by(commit):
            before, after = (git("show", f"{of}:{PARAMS}") for of in (about.baseline, commit))
            again = params_change.command(about.name, commit, before, after, "--temp ")
            said.append(
                f"Experiment `{about.name}` was killed in a temporary copy. The results of the stages that "
                f"ended are in DVC's cache. Go on: {again}"
            )
    shutil.rmtree(folder, ignore_errors=True)
    return [*said, f"Removed the temporary copy {folder}."]


def _git_locks(root: Path, workers: bool) -> list[str]:
    """Remove the lock files of dead commands: Git and DVC write no file of Git's beside which there is one.

    A queue's `workers` may be writing anything but the index.
    """
    if pids_of_git(root):
        return []
    folder = Path(git("rev-parse", "--absolute-git-dir").strip())
    patterns = ("index.lock",) if workers else ("*.lock", "refs/**/*.lock", "objects/*/*.lock")
    locks = [lock for pattern in patterns for lock in sorted(folder.glob(pattern))]
    for lock in locks:
        lock.unlink()
    return [f"Removed .git/{lock.relative_to(folder)}, which a killed command had left." for lock in locks]


def _half_written_lock() -> list[str]:
    """Take dvc.lock from Git where DVC was killed while it wrote it; not where it is in conflict.

    Where the commit has none that DVC can read, as before the first run is committed, it is put aside.
    """
    text = Path(LOCK).read_text(encoding="utf-8", errors="replace") if Path(LOCK).exists() else None
    if text is None or "<<<<<<<" in text or is_lock(text):
        return []
    committed = Side("HEAD").read(LOCK)
    if not (committed and is_lock(committed)):
        aside = Path(LOCK).rename(f"{LOCK}.half-written")
        return [
            f"{LOCK} was half-written, and the commit has none: it is {aside} now. `dvc repro` makes a "
            "new one, and takes the stages that ended from its cache."
        ]
    git("checkout", "--quiet", "HEAD", "--", LOCK)
    return [
        f"{LOCK} was half-written: it is the commit's again. `dvc repro` takes later runs from its cache."
    ]


if __name__ == "__main__":
    command.run("rescue", __doc__, rescue)
