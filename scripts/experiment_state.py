"""What DVC's experiments keep in Git and under .dvc/tmp, and what a killed `dvc exp run` leaves of it.

DVC promises none of it: tests/scripts/test_rescue.py kills real commands and says where to look when it
moves. In the workspace, `dvc exp run`

1. puts the user's changes onto Git's stash, detaches HEAD, adds the params of the command and puts the
whole onto
   a stash of its own (refs/exps/stash); goes back to the branch and takes the user's changes back;
2. notes the commit and that stash in refs/exps/exec/, detaches HEAD again, applies the stash and runs the
stages;
3. commits, names the commit refs/exps/xx/.../NAME, goes back to the branch, the results in the workspace, and
   removes refs/exps/exec/EXEC_BASELINE.

Killed in 1, the user's changes may be on Git's stash; in 2 and 3, HEAD is detached.
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import compat
from scripts.revisions import git, succeeds

TMP = Path(".dvc/tmp")
EXPS = TMP / "exps"
RWLOCKS = (TMP / "rwlock", EXPS / "rwlock")
ARGUMENTS = TMP / "repro.dat"  # in Git's index while an experiment runs
RUNNING = EXPS / "run" / "workspace"
SAVED = "refs/exps/stash"
EXEC = "refs/exps/exec"
APPLY = "refs/exps/apply"


@dataclass(frozen=True)
class Saved:
    """An experiment that was saved and not begun: its commit, the commit that it began at, and its name."""

    commit: str
    baseline: str
    name: str


def writers(path: Path) -> dict[str, dict[str, Any]] | None:
    """Return who holds a lock of DVC's for writing, by what is locked; None where the file is damaged."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8") or "damaged").get("write", {})
    except (ValueError, AttributeError):
        return None


def reference(name: str) -> str | None:
    """Return the commit of a reference."""
    return git("rev-parse", name).strip() if succeeds("rev-parse", "--verify", "--quiet", name) else None


def saved(stash: str = SAVED) -> list[Saved]:
    """Return the experiments on a stash of DVC's, the last first."""
    if reference(stash) is None:
        return []
    lines = git("reflog", "show", "--format=%H %gs", stash).splitlines()
    return [one for line in lines if (one := _saved(*line.split(" ", 1)))]


def described_by(commit: str) -> Saved | None:
    """Return what an experiment's stash commit says of itself."""
    return _saved(commit, f"commit: {git('log', '-1', '--format=%s', commit).strip()}")


def branch_before() -> str | None:
    """Return the branch on which HEAD was before it was detached, by Git's own record; None where on none."""
    for line in git("reflog", "show", "--format=%gs", "HEAD").splitlines():
        if found := re.match(r"checkout: moving from (\S+) to ", line):
            return found[1] if succeeds("show-ref", "--quiet", "--verify", f"refs/heads/{found[1]}") else None
    return None


def stashed_by_dvc() -> str | None:
    """Return what DVC has put onto Git's stash while it saved an experiment; None where it has not.

    It is the last one, of the time when DVC took the lock for saving, or later.
    """
    if reference("refs/stash") is None:
        return None
    commit, when, message = git("log", "-1", "--format=%H %ct %s", "refs/stash").strip().split(" ", 2)
    began = RWLOCKS[1].stat().st_mtime
    return commit if int(when) >= int(began) and message.startswith("WIP on ") else None


def drop_from_stash(commit: str) -> None:
    """Take a commit off Git's stash."""
    place = git("stash", "list", "--format=%H").split().index(commit)
    git("stash", "drop", "--quiet", f"stash@{{{place}}}")


def killed_in_apply() -> bool:
    """Tell whether a `dvc exp apply` was killed.

    It puts the user's changes onto a stash, which it keeps, and notes the experiment when it is done.
    """
    began = reference(f"{APPLY}/ORIG_HEAD")
    if began is None:
        return False
    head = git("rev-parse", "HEAD").strip()
    if detached():
        branch = branch_before()
        return is_experiment(head) and branch is not None and reference(f"refs/heads/{branch}") == began
    applied = applied_by_stash()
    # The note is gone too where the experiment was removed since.
    unfinished = applied is not None and applied != reference(f"{EXEC}/EXEC_APPLY") and is_experiment(applied)
    return head == began and unfinished


def is_experiment(commit: str) -> bool:
    """Tell whether an experiment of today has a commit."""
    named = git("for-each-ref", "--points-at", commit, "--format=%(refname)", "refs/exps/").split()
    return any(re.fullmatch(r"refs/exps/\w{2}/\w{38}/.+", name) for name in named)


def applied_by_stash() -> str | None:
    """Return the experiment for which `dvc exp apply` has put the user's changes onto its stash."""
    if reference(f"{APPLY}/stash") is None:
        return None
    message = git("log", "-1", "--format=%s", f"{APPLY}/stash").strip()
    found = re.search(r"dvc-exp-apply:[0-9a-f]+:([0-9a-f]+):", message)
    return found[1] if found else None


def detached() -> bool:
    """Tell whether HEAD is on no branch."""
    return not succeeds("symbolic-ref", "--quiet", "HEAD")


def running_name() -> str:
    """Return the name that DVC has noted of the experiment that runs in the workspace."""
    try:
        noted = json.loads((RUNNING / "workspace.run").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        noted = {}
    return noted.get("name") or "of unknown name"


def arguments_are_tracked() -> bool:
    """Tell whether Git tracks the arguments of a run."""
    return bool(git("ls-files", "--", str(ARGUMENTS)))


def forget_arguments() -> None:
    """Remove the arguments of a run, which DVC has Git track for as long as it needs them."""
    git("rm", "--cached", "--quiet", "--force", "--ignore-unmatch", "--", str(ARGUMENTS))
    ARGUMENTS.unlink(missing_ok=True)


def forget_execution() -> None:
    """Remove what DVC itself removes at the end of an experiment in the workspace."""
    for name in ("EXEC_BASELINE", "EXEC_MERGE", "EXEC_BRANCH"):
        git("update-ref", "--no-deref", "-d", f"{EXEC}/{name}")
    forget_arguments()
    shutil.rmtree(RUNNING, ignore_errors=True)


def temporary_copies() -> list[Path]:
    """Return the temporary repositories of `--temp` and `--queue` runs."""
    folders = [*EXPS.glob("tmp*"), *(EXPS / "standalone").glob("tmp*")]
    return sorted(folder for folder in folders if folder.is_dir())


def requeue() -> list[str]:
    """Put the tasks of a queue whose workers are dead back into it; return their names.

    Each is what it was: its name, its baseline and its params.
    """
    return list(_requeued())


def _requeued() -> Iterator[str]:
    from dvc.repo import Repo
    from dvc.repo.experiments.stash import ExpStash

    with Repo() as repo:
        queue = repo.experiments.celery_queue
        for task in compat.begun_tasks(queue):
            entry = task.entry
            about = ExpStash.format_message(entry.head_rev, entry.baseline_rev, entry.name, entry.branch)
            git("update-ref", "--create-reflog", "-m", f"commit: {about}", entry.stash_ref, entry.stash_rev)
            shutil.rmtree(Path(queue.get_infofile_path(entry.stash_rev)).parent, ignore_errors=True)
            # Only then is the old one forgotten: killed in between, the next call finds it again.
            if entry.stash_rev not in compat.queued_commits(queue):
                compat.queue_again(queue, task)
            compat.forget_task(queue, task)
            yield entry.name or entry.stash_rev[:7]


def _saved(commit: str, message: str) -> Saved | None:
    """Read the message that DVC gives an experiment's stash."""
    found = re.search(r"dvc-exp:[0-9a-f]+:([0-9a-f]+):([^:]*)", message.strip())
    return Saved(commit, found[1], found[2]) if found else None
